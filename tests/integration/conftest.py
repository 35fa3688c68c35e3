from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import Engine

from reconciler.engines import make
from tests.integration import crowd, crowd_sql
from tests.integration.shop import Shop


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[Shop]:
    """The application that the test's module has as APP."""
    shop = Shop(tmp_path, redis_url, request.module.APP)
    yield shop
    shop.close()


@pytest.fixture
def full(raw: redis.Redis, redis_url: str) -> Iterator[redis.Redis]:
    """A server that is as full as it gets."""
    crowd.fill(raw, redis_url)
    yield raw
    raw.flushall()


@pytest.fixture
def large(postgres_url: str) -> Iterator[Engine]:
    """A database that is as full as it gets."""
    home = make(postgres_url)
    crowd_sql.fill(home)
    yield home
    home.dispose()
