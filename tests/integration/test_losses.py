"""Redis loses data under running jobs, whole or in part: no row runs twice at once, and nothing is left behind."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from qik_core import Job, registry
from qik_core.passes import Passes
from qik_core.results import Code
from qik_core.store import Store
from tests.integration.rows import Rows, left, locks
from tests.integration.shop import HEARTBEAT, LEASE, drained
from tests.waiting import eventually, never

HOLD = HEARTBEAT + 1
START = HEARTBEAT + 3  # the next start after a loss, at the latest


@pytest.fixture
def rows(tmp_path: Path, redis_url: str) -> Iterator[Rows]:
    with registry.scope():

        class Row(Job, unique_for=600, retry=3):
            def perform(self, n: int) -> None: ...

    rows = Rows(tmp_path, redis_url, Row.definition)
    yield rows
    rows.close()


def held(raw: redis.Redis) -> int:
    return sum(
        len([field for field in raw.hkeys(key) if field not in (b"#", b"@")])
        for key in raw.scan_iter("qik:working:*")
    )


def whole(raw: redis.Redis) -> tuple[int, int]:
    """Locks and entries of running jobs."""
    return locks(raw), held(raw)


def test_fifty_running_rows_are_not_started_again_by_edges_right_after_a_flush(
    rows: Rows, raw: redis.Redis
) -> None:
    rows.edge(range(50))
    rows.work("-p", "5", "-c", "10")
    eventually(lambda: len(rows.notes("start")) == 50, 20)
    raw.flushall()
    at = time.monotonic()
    codes = rows.edge([*range(50), 99])

    assert set(codes) <= {Code.ENQUEUED, Code.DIRTIED, Code.DUPLICATE_RUNNING}
    eventually(lambda: whole(raw)[1] == 50, HOLD)
    never(lambda: len(rows.notes("start")) > 50, max(0.0, at + START - time.monotonic()))
    rows.go()
    eventually(drained(raw), 20)
    assert rows.notes("overlap") == []
    assert set(rows.runs("start").values()) <= {1, 2}
    assert rows.runs("start") == rows.runs("end")
    assert rows.runs("end")[99] == 1
    assert left(raw, rows.generation()) == []


def test_the_next_start_after_a_flush_comes_within_a_heartbeat_and_three_seconds(
    rows: Rows, raw: redis.Redis
) -> None:
    rows.work()
    eventually(lambda: raw.scard("qik:idle:default") == 1)
    raw.flushall()
    at = time.monotonic()
    rows.edge(range(5))

    eventually(lambda: len(rows.notes("start")) == 5)
    first = min(when for _, _, when in rows.notes("start"))
    assert HOLD - 0.1 <= first - at <= START
    rows.go()
    eventually(drained(raw))


@pytest.mark.parametrize("what", ["working alive", "unique", "epoch"])
def test_keys_deleted_by_hand_under_running_jobs_come_back_and_nothing_overlaps(
    rows: Rows, raw: redis.Redis, what: str
) -> None:
    """X2 (unique), X3 and X4 (working, alive): nobody who lives is taken for dead."""
    rows.edge(range(10))
    rows.work("-p", "2", "-c", "5")
    eventually(lambda: len(rows.notes("start")) == 10, 20)
    before = raw.get("qik:epoch")
    raw.delete(*[key for part in what.split() for key in raw.scan_iter(f"qik:{part}*")])
    rows.edge(range(10))

    eventually(
        lambda: (raw.hlen(rows.generation()) - 1, held(raw), raw.zcard("qik:alive")) == (10, 10, 2),
        HOLD,
    )
    assert (raw.get("qik:epoch") != before) is ("unique" in what or "epoch" in what)
    never(lambda: len(rows.notes("start")) > 10, HOLD + 0.5)
    rows.go()
    if (
        what == "epoch"
    ):  # the locks that the lost epoch named; a roll collects them, once an hour by itself
        eventually(lambda: Passes(Store(rows.environment["REDIS_URL"])).roll(time.monotonic() + 5))
    eventually(drained(raw))
    assert rows.notes("overlap") == []
    assert set(rows.runs("end").values()) <= {1, 2}
    assert left(raw, rows.generation()) == []


def test_an_old_snapshot_of_what_a_process_holds_brings_back_what_it_had_settled_and_no_more(
    rows: Rows, raw: redis.Redis
) -> None:
    """A failover to a replica that lagged, and a restore: the number of the last exchange goes back."""
    rows.work("-c", "10")
    rows.edge(range(5))
    eventually(lambda: len(rows.notes("start")) == 5)
    (key,) = raw.scan_iter("qik:working:*")
    old = raw.dump(key)
    assert old is not None
    rows.go()
    eventually(drained(raw))
    (rows.folder / "go").unlink()
    rows.edge(range(10, 15))
    eventually(lambda: len(rows.notes("start")) == 10)
    raw.restore(key, 0, old, replace=True)

    eventually(lambda: rows.runs("start")[0] == 2, LEASE)
    assert {n: rows.runs("start")[n] for n in range(10, 15)} == dict.fromkeys(range(10, 15), 1)
    rows.go()
    eventually(drained(raw))
    assert rows.notes("overlap") == []
    assert rows.runs("end") == {**dict.fromkeys(range(5), 2), **dict.fromkeys(range(10, 15), 1)}


def snapshot(raw: redis.Redis) -> dict[bytes, bytes]:
    """Every key as it was at one moment."""
    names = list(raw.scan_iter())
    with raw.pipeline(transaction=True) as dump:
        for name in names:
            dump.dump(name)
        values = dump.execute()
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def test_a_whole_server_that_went_back_in_time_repeats_runs_and_overlaps_none(
    rows: Rows, raw: redis.Redis
) -> None:
    rows.last(0.3)
    rows.work("-p", "2", "-c", "5")
    rows.edge(range(200))
    eventually(lambda: len(rows.notes("end")) > 20, 20)
    old = snapshot(raw)
    eventually(lambda: len(rows.notes("end")) > 80, 20)
    with raw.pipeline(transaction=True) as restore:
        restore.flushall()
        for key, value in old.items():
            restore.restore(key, 0, value, replace=True)
        restore.execute()

    eventually(lambda: len(rows.runs("end")) == 200 and drained(raw)(), 30)
    assert rows.notes("overlap") == []
    assert (
        max(rows.runs("end").values()) <= 3
    )  # its run, its copy of then, and once for what was in doubt


def flush_once(rows: Rows, raw: redis.Redis, dice: random.Random) -> None:
    """Flush while rows run, queue, end and start, and push an edge for each of them at once."""
    rows.last(0.4)
    rows.edge(range(200))
    rows.work("-p", "2", "-c", "10")
    moment = dice.randint(1, 150)
    eventually(lambda: len(rows.notes("end")) >= moment, 30)
    raw.flushall()
    rows.edge(range(200))

    eventually(lambda: len(rows.runs("end")) == 200 and drained(raw)(), 30)
    assert rows.notes("overlap") == []
    assert max(rows.runs("start").values()) <= 2
    assert rows.runs("start") == rows.runs("end")
    assert left(raw, rows.generation()) == []


def test_a_flush_at_a_random_moment_overlaps_nothing_and_leaves_nothing(
    rows: Rows, raw: redis.Redis
) -> None:
    flush_once(rows, raw, random.Random())


@pytest.mark.slow
@pytest.mark.every_server
@pytest.mark.parametrize("seed", range(20))
def test_twenty_flushes_at_random_moments_overlap_nothing_and_leave_nothing(
    rows: Rows, raw: redis.Redis, seed: int
) -> None:
    flush_once(rows, raw, random.Random(seed))
