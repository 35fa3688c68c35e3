"""Shared by the tests of reconcilers: a migrated home database, a Redis, definitions that end with their test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session

from qik_core import client, hooks, registry, settings
from qik_core.passes import Passes
from qik_core.settings import Settings
from qik_core.store import Store
from reconciler import registry as reconcilers
from reconciler.engines import Engines
from reconciler.passes import Tools
from tests.reconciler import tables
from tests.reconciler.shop import Base


@pytest.fixture(autouse=True)
def _own_definitions() -> Iterator[None]:
    """Let each test define jobs and reconcilers of its own."""
    with registry.scope(empty=True), reconcilers.scope():
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
    tables.make(engine)
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
    return Tools.of(seam, engines, "test")


@pytest.fixture
def default_client(redis_url: str) -> Iterator[None]:
    """Let job classes push to an empty Redis."""
    settings.use(Settings(redis=redis_url))
    yield
    client.current().store.close()
    settings.use(None)
    hooks.clear()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database with the shop's tables, and savepoints that are real."""
    made = create_engine(database_url)
    if made.dialect.name == "sqlite":  # its driver begins no transaction before a savepoint
        event.listen(made, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        event.listen(made, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    Base.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session on it."""
    with Session(engine) as session:
        yield session


@pytest.fixture
def postgres_engine(postgres_url: str) -> Iterator[Engine]:
    """An empty database of PostgreSQL."""
    made = create_engine(postgres_url)
    yield made
    made.dispose()


@pytest.fixture
def mariadb_engine(mariadb_url: str) -> Iterator[Engine]:
    """An empty database of MariaDB."""
    made = create_engine(mariadb_url)
    yield made
    made.dispose()
