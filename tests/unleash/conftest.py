"""One Unleash server for a whole file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import servers
from tests.unleash.server import UnleashServer


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
