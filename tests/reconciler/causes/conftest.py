"""Ask why, on SQLite and PostgreSQL; a process that works by hand; a lease that somebody holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from qik_core.passes import Passes
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.inquiry import Means, inquire
from reconciler.lease import Leases
from reconciler.why import Answer, why
from tests.qik_core.store.rig import Rig, Worker
from tests.reconciler.whys import Ask


@pytest.fixture(params=["sqlite_url", "postgres_url"], ids=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """What differs in MariaDB is the SQL of conditions: `test_clauses` asks it."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def ask(engines: Engines, home: Engine, seam: Passes) -> Ask:
    """Ask why, with all the time in the world: what is tested is the answer."""

    def asked(definition: Definition, *key: Any) -> Answer:
        return why(inquire(definition, key, Means(engines, seam), patience=20))

    return asked


@pytest.fixture
def rig(redis_url: str, raw: Any) -> Rig:
    return Rig(redis_url, raw)


@pytest.fixture
def worker(rig: Rig) -> Worker:
    """A process that works on the queue by hand, and is seen to do so."""
    made = rig.worker("host:7:beef")
    rig.raw.sadd("processes", made.identity)
    beat = {"info": json.dumps({"queues": ["work"]}), "beat": str(datetime.now(UTC).timestamp())}
    rig.raw.hset(made.identity, mapping=beat)
    return made


@pytest.fixture
def led(home: Engine) -> Iterator[Callable[[Definition], None]]:
    """Let somebody hold the lease of a reconciler."""
    made: list[Leases] = []

    def lead(definition: Definition) -> None:
        leases = Leases(home, [definition.unit], 30.0, holder="somebody")
        leases.register()
        leases.renew()
        made.append(leases)

    yield lead
    for each in made:
        each.release()
