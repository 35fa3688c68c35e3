"""Records of jobs that have ended: written in the script that ends the job, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from qik_core.passes import Ended, EndedKind, Passes
from qik_core.payload import Payload
from qik_core.results import Code
from qik_core.store.ended import in_doubt, note
from qik_core.store.exchange import Fetched, Kind, Other
from tests.qik_core.store.rig import Rig, digest, done, other

pytestmark = pytest.mark.every_server


def noting(job: Fetched, kind: Kind = Kind.DEAD, ended: EndedKind = EndedKind.DIED) -> Other:
    """The end of a job, with its note."""
    payload = Payload.decode(job.raw)
    number = payload.args[0]
    said = note(
        ended, "Charge", digest(number).decode(), [number], jid=payload.jid, error="ValueError: no"
    )
    return replace(other(job, kind), note=said, again=job.raw)


def records(rig: Rig) -> list[Ended]:
    return list(Passes(rig.store).ended())


def count(rig: Rig, name: str) -> int:
    return int(rig.raw.hget("qik:counts", name) or 0)


@pytest.mark.parametrize("kind", [Kind.DEAD, Kind.GONE])
def test_the_end_of_a_job_and_its_record_are_one_step(rig: Rig, kind: Kind) -> None:
    rig.push(1)
    worker = rig.worker()
    (job,) = worker.fetch()
    before = rig.store.links.call("TIME")
    worker.exchange(noting(job, kind), want=0)

    (record,) = records(rig)
    assert (record.kind, record.name, record.digest) == ("died", "Charge", digest(1).decode())
    assert (record.args, record.jid) == ([1], Payload.decode(job.raw).jid)
    assert (record.version, record.error) == ("------", "ValueError: no")
    assert 0 <= record.at - int(before[0]) < 10
    assert (rig.lock(1), count(rig, "ended_died")) == (None, 1)


def test_a_record_carries_the_version_that_the_row_had_when_it_was_told(rig: Rig) -> None:
    rig.tell(1, versions=[b"aaaaaa"])
    worker = rig.worker()
    (job,) = worker.fetch()
    worker.exchange(noting(job), want=0)

    assert [each.version for each in records(rig)] == ["aaaaaa"]


def test_a_lost_reply_makes_one_record_of_one_end(rig: Rig) -> None:
    rig.push(1)
    worker = rig.worker()
    (job,) = worker.fetch()
    worker.send(2, noting(job), want=0)
    assert worker.send(2, noting(job), want=0).status == "again"

    assert len(records(rig)) == 1


@pytest.mark.parametrize("kind", [Kind.RETRY, Kind.LATER, Kind.BACK])
def test_a_job_that_runs_again_has_not_ended(rig: Rig, kind: Kind) -> None:
    rig.push(1)
    worker = rig.worker()
    (job,) = worker.fetch()
    worker.exchange(noting(job, kind), want=0)

    assert records(rig) == []


@pytest.mark.parametrize("kind", [Kind.DEAD, Kind.GONE])
def test_a_job_that_an_edge_wants_once_more_has_not_ended(rig: Rig, kind: Kind) -> None:
    rig.push(1)
    worker = rig.worker()
    (job,) = worker.fetch()
    assert rig.edge(9, keys=[1]) == [Code.DIRTIED]
    worker.exchange(noting(job, kind), want=0)

    assert (records(rig), rig.queued()) == ([], [Payload.decode(job.raw).jid])


def test_a_superseded_end_leaves_no_record(rig: Rig) -> None:
    rig.push(1)
    worker = rig.worker()
    (job,) = worker.fetch()
    rig.raw.hset(
        "qik:unique:" + rig.store.look().generation, digest(1), "r0------9999999999other|xxxxxx"
    )
    assert worker.exchange(noting(job), want=0).superseded == 1

    assert records(rig) == []


def test_a_job_whose_lock_is_gone_leaves_a_record_without_a_version(rig: Rig) -> None:
    rig.push(1)
    worker = rig.worker()
    (job,) = worker.fetch()
    rig.raw.hdel("qik:unique:" + rig.store.look().generation, digest(1))
    worker.exchange(noting(job), want=0)

    assert [each.version for each in records(rig)] == ["------"]


def test_the_list_keeps_the_newest_hundred_thousand_and_counts_what_it_lost(rig: Rig) -> None:
    rig.push(1, 2)
    worker = rig.worker()
    one, two = worker.fetch()
    worker.exchange(noting(one), want=0)
    oldest = rig.raw.lindex("qik:ended", 0)
    for _ in range(10):
        rig.raw.lpush("qik:ended", *[b"x"] * 9_999)
    rig.raw.lpush("qik:ended", *[b"x"] * 9)
    assert rig.raw.llen("qik:ended") == 100_000
    worker.exchange(noting(two), want=0)

    assert rig.raw.llen("qik:ended") == 100_000
    assert rig.raw.lindex("qik:ended", -1) != oldest
    assert (count(rig, "ended_died"), count(rig, "ended_lost")) == (2, 1)


def test_a_job_ends_though_its_record_cannot_be_written(rig: Rig) -> None:
    rig.push(1)
    worker = rig.worker()
    (job,) = worker.fetch()
    rig.raw.set("qik:ended", "somebody else's")
    worker.exchange(noting(job), want=0)

    assert (worker.held, rig.lock(1), rig.raw.zcard("dead")) == (0, None, 1)
    assert count(rig, "ended_lost") == 1


def test_records_are_written_to_a_full_redis(rig: Rig) -> None:
    rig.push(1)
    worker = rig.worker()
    (job,) = worker.fetch()
    rig.raw.config_set("maxmemory", 100_000)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        rig.raw.set("a", "1")
    worker.exchange(noting(job), want=0)

    assert len(records(rig)) == 1


def test_a_record_in_doubt_is_made_only_where_somebody_reads(rig: Rig) -> None:
    rig.push(1, 2)
    worker = rig.worker()
    one, two = worker.fetch()

    def doubted(job: Fetched) -> Other:
        made = noting(job)
        return replace(made, note=in_doubt(made.note))

    worker.exchange(doubted(one), want=0)
    assert records(rig) == []  # which is a reading
    worker.exchange(doubted(two), want=0)
    assert [each.args for each in records(rig)] == [[2]]
    assert 86_000 < rig.raw.ttl("qik:ended:read") <= 86_400
    assert in_doubt(b"") == b""


def test_a_job_that_ended_well_leaves_no_record(rig: Rig) -> None:
    rig.push(1)
    worker = rig.worker()
    (job,) = worker.fetch()
    worker.exchange(done(job), want=0)

    assert rig.raw.exists("qik:ended") == 0
