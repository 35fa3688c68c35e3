from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from qik_core.web import Secrets, app
from tests.qik_core.store.rig import Rig
from tests.qik_core.web.site import Browser, served

Site = Callable[..., Browser]


@pytest.fixture
def site(rig: Rig) -> Iterator[Site]:
    """Serves dashboards of the test's server, and gives browsers that look at them."""
    with ExitStack() as stack:

        def serve(path: str = "", **options: Any) -> Browser:
            dashboard = app(rig.store, **{"secrets": Secrets(), **options})
            browser = Browser(stack.enter_context(served(dashboard, path=path)))
            stack.callback(browser.close)
            return browser

        yield serve
