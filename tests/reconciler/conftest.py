"""Shared by the tests of reconcilers: a migrated home database, a Redis, definitions that end with their test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from qik_core import registry
from qik_core.passes import Passes
from qik_core.store import Store
from reconciler import definition, migrate
from reconciler.engines import Engines
from reconciler.ledger import Ledger
from reconciler.passes import Tools
from reconciler.watch import Watch
from tests.reconciler.shop import Base


@pytest.fixture(autouse=True)
def _own_definitions() -> Iterator[None]:
    """Let each test define jobs and reconcilers of its own."""
    with registry.scope(), definition.scope():
        yield


@pytest.fixture
def engines(database_url: str) -> Iterator[Engines]:
    """The databases of one process: `default` alone."""
    made = Engines({"default": database_url})
    yield made
    made.dispose()


@pytest.fixture
def home(engines: Engines) -> Engine:
    """A database with our tables and the shop's."""
    engine = engines.home()
    migrate.upgrade(engine)
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def seam(redis_url: str) -> Iterator[Passes]:
    """The engine's seam on an empty Redis."""
    store = Store(redis_url)
    yield Passes(store)
    store.close()


@pytest.fixture
def tools(seam: Passes, engines: Engines, home: Engine) -> Tools:
    """What a pass works with."""
    return Tools(seam, Watch(seam), engines, Ledger(home, "test"))
