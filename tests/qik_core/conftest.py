from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.faultproxy import FaultProxy
from tests.qik_core.engine import Engine, Jobs, Start, load_scripts
from tests.qik_core.store.rig import Rig


@pytest.fixture
def rig(redis_url: str, raw: redis.Redis) -> Iterator[Rig]:
    rig = Rig(redis_url, raw)
    yield rig
    rig.link.close()
    rig.store.close()


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def start(rig: Rig, jobs: Jobs, proxy: FaultProxy) -> Iterator[Start]:
    """Starts engines, and ends them with the test, before the proxy."""
    started: list[Engine] = []

    def start(url: str = rig.url, jobs: Jobs = jobs, **options: Any) -> Engine:
        started.append(Engine(url, jobs, **options))
        return started[-1]

    yield start
    jobs.open()
    for engine in started:
        engine.stop()


@pytest.fixture
def proxy(rig: Rig, tmp_path: Path) -> Iterator[FaultProxy]:
    load_scripts(rig.link)
    proxy = FaultProxy(rig.url, tmp_path)
    yield proxy
    proxy.close()
