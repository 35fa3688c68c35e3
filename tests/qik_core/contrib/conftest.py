from __future__ import annotations

from collections.abc import Iterator

import pytest

from qik_core import registry, settings
from qik_core.settings import Settings
from qik_core.store import Store


@pytest.fixture(autouse=True)
def _settings(request: pytest.FixtureRequest, redis_url: str) -> Iterator[None]:
    """The settings of this process, and the jobs that the module names in `JOBS`."""
    Store(redis_url, birth_ms=0).look()  # no hold at the start of a new epoch
    settings.use(Settings(redis=redis_url, queues=(("billing", 1),), heartbeat=0.5, poll=0.05))
    with registry.scope():
        for job in request.module.JOBS:
            registry.register(job.definition)
        yield
    settings.use(None)
