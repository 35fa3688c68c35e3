from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine

from qik_core.passes import Passes
from reconciler.switches.acts import Switcher
from reconciler.switches.table import Table
from tests.reconciler.switches.boards import Process, Says


@pytest.fixture
def process(home: Engine, redis_url: str) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(name: str = "one", *says: Says) -> Process:
        started.append(Process(home, redis_url, name, *says))
        return started[-1]

    yield start
    for each in started:
        each.store.close()


@pytest.fixture
def table(home: Engine) -> Table:
    return Table(home)


@pytest.fixture
def switcher(home: Engine, seam: Passes) -> Switcher:
    return Switcher(home, seam)
