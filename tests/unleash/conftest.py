"""A stub of an Unleash server and providers for it; and one real Unleash server for a whole file of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.switches.unleash import Means, Unleash
from tests import servers
from tests.unleash.providing import ON, QUICK, REFRESH, Make, threads
from tests.unleash.server import UnleashServer
from tests.unleash.stub import TOKEN, Stub, good
from tests.waiting import eventually


@pytest.fixture(scope="module")
def _unleash(_postgres: list[servers.Postgres]) -> Iterator[UnleashServer]:
    if not _postgres:
        _postgres.append(servers.Postgres())
    _postgres[0].start()
    with _postgres[0].database() as url:
        server = UnleashServer(url)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def unleash(_unleash: UnleashServer) -> UnleashServer:
    """A server that runs, on a database of its own, also when the test before killed it. Flags stay from test to test."""
    _unleash.start()
    return _unleash


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A stub that answers as a server does where `disable_mail` is on."""
    with Stub(good(ON)) as made:
        yield made


@pytest.fixture
def make(stub: Stub, tmp_path: Path) -> Iterator[Make]:
    """Starts a provider for the stub; each one keeps its file in the same folder."""
    made: list[Unleash] = []

    def start(changed: Callable[[Unleash], None] = lambda _: None, means: Means = QUICK) -> Unleash:
        provider = Unleash(stub.url, TOKEN, "shop", REFRESH, tmp_path / "kept", means)
        made.append(provider)
        provider.start(lambda: changed(provider))
        return provider

    yield start
    for each in made:
        each.close()
    stub.stop()
    eventually(lambda: not threads(), 20.0, "its threads have ended")
