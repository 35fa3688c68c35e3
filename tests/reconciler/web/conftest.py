from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from qik_core.store import Store
from qik_core.web import Secrets, app
from reconciler.web import tabs
from tests.chromium import Tab, chromium
from tests.qik_core.web.site import Browser, served

Site = Callable[..., Browser]


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: what the pages call is tested on each."""
    return sqlite_url


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    """An empty Redis."""
    made = Store(redis_url)
    made.look()
    yield made
    made.close()


@pytest.fixture
def site(store: Store, home: Engine) -> Iterator[Site]:
    """Serves dashboards with the tabs of reconcilers, and gives browsers that look at them."""
    with ExitStack() as stack:

        def serve(databases: Any = None, path: str = "", **options: Any) -> Browser:
            given = databases or {"default": home}
            made = app(store, **{"secrets": Secrets(), "tabs": tabs(given), **options})
            browser = Browser(stack.enter_context(served(made, path=path)))
            stack.callback(browser.close)
            return browser

        yield serve


@pytest.fixture
def silent() -> Iterator[str]:
    """A database that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql+psycopg://u:p@127.0.0.1:{server.getsockname()[1]}/x"


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    """A real browser."""
    with chromium(tmp_path / "profile") as tab:
        yield tab
