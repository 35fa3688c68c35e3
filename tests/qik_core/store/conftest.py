from __future__ import annotations

import pytest
import redis

from tests.qik_core.store.rig import Rig


@pytest.fixture
def rig(redis_url: str, raw: redis.Redis) -> Rig:
    return Rig(redis_url, raw)
