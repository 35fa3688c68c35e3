from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, make_url, select

from qik_core.passes import Passes
from reconciler import sharding, silence, status
from reconciler.engines import Engines
from reconciler.report import Outcome
from reconciler.tables import lease, passes
from tests.reconciler.running import Running
from tests.reconciler.sharded import shard, sharded
from tests.reconciler.shop import Base, fill, items
from tests.reconciler.test_manager import PENDING
from tests.reconciler.wire import Wire
from tests.servers import Postgres
from tests.waiting import eventually


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """The home database: shards have databases of their own."""
    return sqlite_url


@pytest.fixture
def start(
    engines: Engines, home: Engine, seam: Passes, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    monkeypatch.setattr(sharding, "RELOAD", 0.2)
    monkeypatch.setattr(sharding, "_AGAIN", 0.2)
    started: list[Running] = []

    def begin(*definitions: Any, ttl: float = 30.0) -> Running:
        started.append(Running(definitions, engines, seam, ttl))
        return started[-1]

    yield begin
    for each in started:
        each.stop()


def jobs(raw: Any) -> Counter[tuple[str, int]]:
    return Counter(tuple(json.loads(each)["args"]) for each in raw.lrange("queue:work", 0, -1))


def test_the_same_id_in_two_shards_is_two_jobs(tmp_path: Path, start: Any, raw: Any) -> None:
    shards = {name: shard(tmp_path, name, 3) for name in ("eu1", "us1")}
    start(sharded(lambda: shards))

    eventually(lambda: raw.llen("queue:work") == 6)

    assert jobs(raw) == Counter((name, each) for name in ("eu1", "us1") for each in (1, 2, 3))


def test_each_shard_has_its_lease_its_ledger_and_its_line(
    tmp_path: Path, start: Any, home: Engine
) -> None:
    shards = {name: shard(tmp_path, name, 1) for name in ("eu1", "us1")}
    running = start(sharded(lambda: shards))
    eventually(lambda: len(running.reports) == 2)

    with home.connect() as connection:
        leased = connection.execute(
            select(lease.c.shard).where(lease.c.reconciler == "Items", lease.c.term == 1)
        )
        assert sorted(leased.scalars()) == ["eu1", "us1"]
        ended = connection.execute(select(passes.c.shard).where(passes.c.reconciler == "Items"))
        assert sorted(ended.scalars()) == ["eu1", "us1"]
    assert [each.unit for each in status.standings(home)] == ["Items/eu1", "Items/us1"]


def test_a_dead_shard_stops_neither_the_others_nor_other_reconcilers(
    tmp_path: Path, start: Any, home: Engine, raw: Any
) -> None:
    fill(home, [7])
    shards = {
        "dead": "postgresql+psycopg://127.0.0.1:1/none",
        "misspelt": "billing",
        "well": shard(tmp_path, "well", 2),
    }
    running = start(sharded(lambda: shards), items(PENDING, name="Plain", queue="plain"))

    eventually(lambda: raw.llen("queue:work") == 2 and raw.llen("queue:plain") == 1)
    eventually(lambda: running.ended("Items/dead") and running.ended("Items/misspelt"))
    failed = {each.reconciler: each.reason for each in running.reports if each.error is not None}
    assert set(failed) == {"Items/dead", "Items/misspelt"}
    assert "no database is called 'billing'" in failed["Items/misspelt"]


def test_a_shard_that_appears_is_told_and_one_that_is_gone_is_given_back(
    tmp_path: Path, start: Any, home: Engine, raw: Any
) -> None:
    shards = {"eu1": shard(tmp_path, "eu1", 2)}
    start(sharded(lambda: shards))
    eventually(lambda: raw.llen("queue:work") == 2)

    shards["us1"] = shard(tmp_path, "us1", 3)
    eventually(lambda: raw.llen("queue:work") == 5)

    del shards["eu1"]
    eventually(lambda: holders(home)["eu1"] is None)
    assert holders(home)["us1"] is not None


def test_a_shard_that_comes_back_is_told_again(tmp_path: Path, start: Any, home: Engine) -> None:
    url = shard(tmp_path, "eu1", 1)
    shards = {"eu1": url}
    running = start(sharded(lambda: shards))
    eventually(lambda: len(running.ended("Items/eu1")) == 1)

    del shards["eu1"]
    eventually(lambda: holders(home)["eu1"] is None)
    shards["eu1"] = url

    eventually(lambda: len(running.ended("Items/eu1")) == 2)


def test_shards_that_cannot_be_loaded_stop_nobody_and_are_asked_for_again(
    tmp_path: Path, start: Any, home: Engine, raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shards: dict[str, str] = {}

    def load() -> dict[str, str]:
        if not shards:
            raise OSError("the directory is away")
        return shards

    fill(home, [7])
    start(sharded(load), items(PENDING, name="Plain", queue="plain"))
    eventually(lambda: raw.llen("queue:plain") == 1)
    assert "Shards(load) raised OSError: the directory is away" in said(caplog)

    shards["eu1"] = shard(tmp_path, "eu1", 2)
    eventually(lambda: raw.llen("queue:work") == 2)


def test_while_shards_cannot_be_loaded_those_that_were_there_go_on(
    tmp_path: Path, start: Any, raw: Any
) -> None:
    url = shard(tmp_path, "eu1", 1)
    answers: list[bool] = []

    def load() -> dict[str, str]:
        answers.append(True)
        if len(answers) > 1:
            raise OSError("the directory is away")
        return {"eu1": url}

    start(sharded(load, every=0.2))
    eventually(lambda: raw.llen("queue:work") == 1 and len(answers) > 2)
    engine = create_engine(url)
    fill(engine, [2])
    engine.dispose()

    eventually(lambda: raw.llen("queue:work") == 2)


def test_two_processes_share_the_shards_out(tmp_path: Path, start: Any, home: Engine) -> None:
    shards = {name: shard(tmp_path, name, 1) for name in ("a", "b", "c", "d")}
    definition = sharded(lambda: shards)
    start(definition, ttl=3.0)
    eventually(lambda: set(holders(home)) == set(shards))
    start(definition, ttl=3.0)

    eventually(lambda: sorted(Counter(holders(home).values()).values()) == [2, 2], 10.0)


def test_a_shard_is_not_taken_from_a_reconciler_of_the_same_name_as_another(
    tmp_path: Path, start: Any, home: Engine
) -> None:
    start(sharded(lambda: {"eu1": shard(tmp_path, "eu1", 1)}, name="One"))
    start(sharded(lambda: {"eu1": shard(tmp_path, "other", 1)}, name="Two"))

    def led() -> list[str]:
        with home.connect() as connection:
            query = select(lease.c.reconciler).where(
                lease.c.shard == "eu1", lease.c.holder.is_not(None)
            )
            return sorted(connection.execute(query).scalars())

    eventually(lambda: led() == ["One", "Two"])


def holders(home: Engine) -> dict[str, str | None]:
    with home.connect() as connection:
        query = select(lease.c.shard, lease.c.holder).where(lease.c.reconciler == "Items")
        return {row.shard: row.holder for row in connection.execute(query)}


def said(caplog: pytest.LogCaptureFixture) -> str:
    return " ".join(str(record.__dict__.get("error", "")) for record in caplog.records)


def test_a_shard_in_a_black_hole_neither_stops_nor_slows_the_others(
    tmp_path: Path,
    start: Any,
    engines: Engines,
    postgres: Postgres,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(silence, "GRACE", 0.2)
    monkeypatch.setattr("reconciler.sql.CLOCK_TIMEOUT", 0.5)
    with Wire(postgres.port) as wire:
        url = make_url(postgres_url).set(host="127.0.0.1", port=wire.port, query={})
        shards = {
            "dark": url.render_as_string(hide_password=False),
            "well": shard(tmp_path, "well", 2),
        }
        definition = sharded(lambda: shards, every=0.1, statement_timeout=0.5)
        dark = engines.of(definition.in_shard("dark"))
        Base.metadata.create_all(dark)
        event.listen(dark, "before_cursor_execute", lambda *_: setattr(wire, "fault", "hole"))
        running = start(definition)

        eventually(lambda: len(running.ended("Items/dark")) > 1, 20.0)

        failed = [each for each in running.reports if each.reconciler == "Items/dark"]
        assert all("no answer within" in each.reason for each in failed)
        assert len(running.ended("Items/well")) > 5
        assert Outcome.FAILED not in running.ended("Items/well")
        assert running.thread.is_alive()
        running.stop()


def test_an_application_that_does_not_answer_which_shards_there_are_holds_up_nobody(
    start: Any, home: Engine, raw: Any
) -> None:
    gate = threading.Event()

    def load() -> dict[str, str]:
        gate.wait(30.0)
        return {}

    fill(home, [7])
    running = start(sharded(load), items(PENDING, name="Plain", queue="plain"))

    eventually(lambda: raw.llen("queue:plain") == 1)
    threading.Timer(0.5, gate.set).start()
    running.stop()
