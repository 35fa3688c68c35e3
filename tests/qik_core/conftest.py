from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from qik_core import client, settings
from qik_core.settings import Settings
from tests.faultproxy import FaultProxy, load_scripts
from tests.qik_core.engine import Engine, Jobs, Start
from tests.qik_core.store.rig import Rig, Worker


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
    load_scripts(rig.raw)
    proxy = FaultProxy(rig.url, tmp_path)
    yield proxy
    proxy.close()


@pytest.fixture
def default_client(redis_url: str) -> Iterator[None]:
    """Job classes push to the test's own server."""
    settings.use(Settings(redis=redis_url))
    yield
    client.current().store.close()
    settings.use(None)


@pytest.fixture
def worker(rig: Rig) -> Worker:
    return rig.worker("host:1:aaaa")
