"""Ruby's Sidekiq beside ours, on one private Redis.

ruby   ask Sidekiq in its own words: ruby("Sidekiq::Queue.new.size")
shop   workers of both languages and the notes of their jobs; pushes of the test's own process go there too
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qik_core import settings
from tests.interop.peers import Ask, Oracle, Shop, as_ours


@pytest.fixture(scope="session")
def _oracle() -> Iterator[Oracle]:
    oracle = Oracle()
    yield oracle
    oracle.close()


@pytest.fixture
def ruby(_oracle: Oracle, redis_url: str) -> Ask:
    """Ask Sidekiq something of this test's Redis."""
    return lambda words: _oracle.ask(redis_url, words)


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Iterator[Shop]:
    """Workers of both languages on this test's Redis."""
    as_ours(redis_url)
    shop = Shop(tmp_path, redis_url)
    yield shop
    shop.close()
    settings.use(None)
