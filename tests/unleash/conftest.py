"""One Unleash server for a whole file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import servers
from tests.unleash.server import UnleashServer


@pytest.fixture(scope="module")
def unleash(_postgres: list[servers.Postgres]) -> Iterator[UnleashServer]:
    """A server that runs, on a database of its own; a test that stops it starts it again."""
    if not _postgres:
        _postgres.append(servers.Postgres())
    _postgres[0].start()
    with _postgres[0].database() as url:
        server = UnleashServer(url)
        try:
            server.start()
            yield server
        finally:
            server.stop()
