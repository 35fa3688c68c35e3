from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.shop import Shop


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[Shop]:
    """The application that the test's module has as APP."""
    shop = Shop(tmp_path, redis_url, request.module.APP)
    yield shop
    shop.close()
