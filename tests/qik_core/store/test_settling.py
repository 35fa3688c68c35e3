from __future__ import annotations

import json
import time

import pytest

from qik_core.payload import Payload
from qik_core.results import Code
from qik_core.store import recovery
from qik_core.store.exchange import Fetched, Kind, Other
from qik_core.store.recovery import Home
from tests.qik_core.store.rig import Rig, Worker, digest, done, jid, other

pytestmark = pytest.mark.every_server


@pytest.fixture
def job(rig: Rig) -> tuple[Worker, Fetched]:
    """A process that holds one unique job."""
    rig.edge(1)
    worker = rig.worker()
    return worker, worker.fetch()[0]


def counted(job: Fetched, kind: Kind, counter: str) -> Other:
    settled = other(job, kind)
    return Other(
        job, kind, settled.unique, settled.jid, job.queue, settled.payload, counter=counter
    )


# --- once more, later ----------------------------------------------------------


def test_a_job_that_asks_to_run_again_later_keeps_its_lock_as_a_scheduled_one(
    rig: Rig, job: tuple[Worker, Fetched]
) -> None:
    worker, held = job
    worker.exchange(other(held, Kind.LATER, delay=60))

    ((_, due),) = rig.raw.zrange("schedule", 0, -1, withscores=True)
    assert 55 < due - time.time() < 65
    assert (rig.lock(1) or "")[0] == "s"
    assert rig.tell(2, keys=[1]) == [Code.DUPLICATE_SCHEDULED]
    assert rig.edge(3, keys=[1]) == [Code.ADVANCED]
    assert rig.queued() == [jid(1).decode()]
    assert (rig.raw.get("qik:n:schedule"), rig.raw.zcard("schedule")) == (b"0", 0)


def test_a_job_that_asks_to_run_again_at_once_goes_behind_all_others(
    rig: Rig, job: tuple[Worker, Fetched]
) -> None:
    worker, held = job
    rig.edge(2)
    worker.exchange(other(held, Kind.LATER), want=0)

    assert rig.queued() == [jid(2).decode(), jid(1).decode()]
    assert (rig.lock(1) or "")[0] == "q"


def test_an_edge_that_came_meanwhile_does_not_wait_for_the_later_run(
    rig: Rig, job: tuple[Worker, Fetched]
) -> None:
    worker, held = job
    assert rig.edge(2, keys=[1]) == [Code.DIRTIED]
    worker.exchange(other(held, Kind.LATER, delay=60), want=0)

    assert (rig.queued(), rig.raw.zcard("schedule")) == ([jid(1).decode()], 0)


# --- counted ---------------------------------------------------------------------


def test_what_is_dropped_is_counted_by_its_reason(rig: Rig) -> None:
    rig.edge(1, 2, 3)
    worker = rig.worker()
    first, second, third = worker.fetch()
    worker.exchange(
        counted(first, Kind.GONE, "expired"),
        counted(second, Kind.GONE, "expired"),
        counted(third, Kind.DEAD, "poison"),
    )

    assert rig.raw.hgetall("qik:counts") == {b"expired": b"2", b"poison": b"1"}
    assert rig.locks() == 0


def test_what_another_has_taken_over_is_not_counted_as_dropped(
    rig: Rig, job: tuple[Worker, Fetched]
) -> None:
    worker, held = job
    key = "qik:unique:" + rig.store.look().generation
    record = rig.raw.hget(key, digest(1))
    rig.raw.hset(key, digest(1), record.replace(b"|", b"|zzz")[:-3])
    worker.exchange(counted(held, Kind.GONE, "expired"))

    assert rig.raw.hgetall("qik:counts") == {b"superseded": b"1"}
    assert rig.locks() == 1


# --- suspects --------------------------------------------------------------------


def suspect(rig: Rig, worker: Worker) -> None:
    """The process has ended, and its jobs are suspects."""
    assert recovery.fence(rig.link, worker.identity, recovery.SURE)
    recovery.recover(
        rig.link,
        worker.identity,
        rig.store.candidate,
        home=lambda job: (
            Home.SUSPECTS,
            Payload.decode(job.raw).replace(deaths=2).encode(),
        ),
    )


def ask(worker: Worker, *, suspects: bool) -> list[Fetched]:
    call = worker.store.prepare((), ("default",), 1, suspects=suspects)
    answer = worker.store.exchange(worker.rig.link, worker.sequence + 1, call)
    worker.sequence += answer.status == "done"
    return list(answer.jobs)


def test_a_suspect_is_fetched_only_by_who_asks_for_suspects(
    rig: Rig, job: tuple[Worker, Fetched]
) -> None:
    suspect(rig, job[0])
    heir = rig.worker("host:2:heir")

    assert rig.raw.smembers("qik:suspects") == {b"default"}
    assert ask(heir, suspects=False) == []
    (again,) = ask(heir, suspects=True)
    assert json.loads(again.raw)["deaths"] == 2
    assert (again.queue, rig.raw.exists("qik:suspects")) == ("default", 0)
    heir.exchange(done(again))
    assert (rig.locks(), heir.held) == (0, 0)


def test_a_suspect_keeps_its_lock_and_a_roll_finds_it(
    rig: Rig, job: tuple[Worker, Fetched]
) -> None:
    suspect(rig, job[0])
    from qik_core.store.rolls import roll

    assert rig.tell(2, keys=[1]) == [Code.DUPLICATE_QUEUED]
    assert roll(rig.link, rig.store.candidate, "walker", deadline=time.monotonic() + 5) == 0
    assert rig.tell(2, keys=[1]) == [Code.DUPLICATE_QUEUED]


def test_suspects_that_somebody_deleted_are_noticed(rig: Rig, job: tuple[Worker, Fetched]) -> None:
    suspect(rig, job[0])
    rig.raw.delete("qik:suspect:default")

    assert rig.store.audit(["default"]) == 1


def test_suspects_run_in_the_order_in_which_their_processes_died(rig: Rig) -> None:
    for number in (1, 2):
        rig.edge(number)
        worker = rig.worker(f"host:{number}:x")
        worker.fetch()
        suspect(rig, worker)
    heir = rig.worker("host:3:heir")

    first, second = ask(heir, suspects=True), ask(heir, suspects=True)
    assert [Payload.decode(job.raw).jid for job in (*first, *second)] == [
        jid(1).decode(),
        jid(2).decode(),
    ]


# --- adoption --------------------------------------------------------------------


def foreign(rig: Rig, number: int, key: int, *, until: str = "S") -> Fetched:
    """A job without our header is fetched by the worker; returns it as it is to be adopted."""
    raw = {"class": "Charge", "args": [key], "jid": jid(number).decode()}
    rig.raw.lpush("queue:default", json.dumps(raw))
    ours = {"qik": f"{digest(key).decode()}{until}60", "queue": "default", **raw}
    return Fetched(b"", Payload(ours).encode(), "default")


def adopt(worker: Worker, *wanted: Fetched) -> set[bytes] | None:
    held = worker.fetch()
    return worker.store.adopt(
        worker.rig.link,
        [job._replace(field=at.field) for job, at in zip(wanted, held, strict=True)],
    )


def test_an_adopted_job_holds_its_lock_and_gives_it_back(rig: Rig) -> None:
    worker = rig.worker()
    assert adopt(worker, foreign(rig, 1, 1)) == set()

    assert (rig.lock(1) or "")[0] == "r"
    assert rig.tell(2, keys=[1]) == [Code.DUPLICATE_RUNNING]
    raw = rig.raw.hget(f"qik:working:{worker.identity}", "1.1")
    worker.exchange(done(Fetched(b"1.1", raw, "default")))
    assert (rig.locks(), worker.held) == (0, 0)


def test_a_foreign_copy_of_a_key_that_another_holds_does_not_run(rig: Rig) -> None:
    rig.edge(1)
    other_process = rig.worker("host:2:other")
    other_process.fetch()
    worker = rig.worker()

    assert adopt(worker, foreign(rig, 2, 1)) == {b"1.1"}
    assert (worker.held, rig.raw.hget("qik:counts", "superseded")) == (0, b"1")
    assert jid(1).decode() in (rig.lock(1) or "")


def test_two_foreign_copies_of_one_key_in_one_fetch_run_once(rig: Rig) -> None:
    assert adopt(rig.worker(), foreign(rig, 1, 1), foreign(rig, 2, 1)) == {b"1.2"}


def test_adopting_twice_changes_nothing(rig: Rig) -> None:
    worker = rig.worker()
    wanted = foreign(rig, 1, 1)
    (held,) = worker.fetch()
    adopted = [wanted._replace(field=held.field)]

    assert worker.store.adopt(rig.link, adopted) == set()
    assert worker.store.adopt(rig.link, adopted) == set()
    assert worker.held == 1


def test_our_own_job_that_a_ruby_poller_wrote_anew_finds_its_lock(rig: Rig) -> None:
    rig.edge(1, due=[time.time() + 60])
    (raw,) = rig.raw.zrange("schedule", 0, -1)
    rig.raw.delete("schedule")
    fields = json.loads(raw)
    rig.raw.lpush("queue:default", json.dumps({"retry": True, **fields}))
    worker = rig.worker()
    (held,) = worker.fetch()
    ours = Payload.decode(held.raw).encode()

    assert worker.store.adopt(rig.link, [held._replace(raw=ours)]) == set()
    assert (rig.lock(1) or "")[0] == "r"


def test_a_lock_until_the_start_ends_when_its_foreign_job_is_adopted(rig: Rig) -> None:
    assert adopt(rig.worker(), foreign(rig, 1, 1, until="T")) == set()
    assert rig.locks() == 0


def test_a_fenced_process_adopts_nothing(rig: Rig) -> None:
    worker = rig.worker()
    wanted = foreign(rig, 1, 1)
    (held,) = worker.fetch()
    rig.raw.hset(f"qik:working:{worker.identity}", "#", "fenced")

    assert worker.store.adopt(rig.link, [wanted._replace(field=held.field)]) is None
    assert rig.locks() == 0
