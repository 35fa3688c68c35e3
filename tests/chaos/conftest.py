from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.chaos.crasher import Crasher
from tests.faultproxy import FaultProxy, load_scripts
from tests.qik_core.store.rig import Rig
from tests.servers import outliving


@pytest.fixture(scope="session")
def crasher() -> Iterator[Crasher]:
    """Processes that die at a chosen call."""
    with outliving():
        crasher = Crasher()
    yield crasher
    crasher.close()


@pytest.fixture
def rig(redis_url: str, raw: redis.Redis) -> Iterator[Rig]:
    rig = Rig(redis_url, raw)
    load_scripts(raw)
    yield rig
    rig.link.close()
    rig.store.close()


@pytest.fixture
def proxy(redis_url: str, tmp_path: Path) -> Iterator[FaultProxy]:
    proxy = FaultProxy(redis_url, tmp_path, tcp=True)
    yield proxy
    proxy.close()
