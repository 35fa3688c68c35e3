from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qik_core import client, hooks, settings
from qik_core.settings import Settings
from tests.acceptance.scenarios.world import Size, World


@pytest.fixture
def world(
    request: pytest.FixtureRequest, size: Size, tmp_path: Path, redis_url: str
) -> Iterator[World]:
    """A world on the database that the scenario's size names."""
    made = World(tmp_path, redis_url, request.getfixturevalue(f"{size.database}_url"))
    yield made
    made.close()


@pytest.fixture
def edges(redis_url: str) -> Iterator[None]:
    """Let this process push edges, as an application does."""
    settings.use(Settings(redis=redis_url))
    yield
    client.current().store.close()
    settings.use(None)
    hooks.clear()
