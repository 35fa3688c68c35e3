"""What the reconciler is told when a person makes a job dead, or retries a dead one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qik_core import rows
from qik_core.api import DeadSet, Queue, RetrySet
from qik_core.passes import Ended, EndedKind, Passes
from qik_core.store.exchange import Kind
from tests.qik_core.store.rig import Rig, digest, jid, other
from tests.qik_core.telling import Table

pytestmark = pytest.mark.every_server


@pytest.fixture
def _reconciled() -> Iterator[None]:
    with rows.filled(Table):
        yield


@pytest.fixture
def _unreconciled() -> Iterator[None]:
    with rows.filled(None):
        yield


def fail(rig: Rig, kind: Kind, *numbers: int, unique: bool = True) -> None:
    """Let jobs die or wait for a retry."""
    rig.push(*numbers, unique=unique)
    worker = rig.worker()
    worker.exchange(*[other(job, kind, 60.0) for job in worker.fetch()], want=0)
    worker.store.leave(rig.link, ["default"])


def records(rig: Rig) -> list[Ended]:
    return list(Passes(rig.store).ended())


@pytest.mark.usefixtures("_reconciled")
def test_a_dead_job_that_is_retried_is_told_with_its_key(rig: Rig) -> None:
    fail(rig, Kind.DEAD, 1, 2)
    dead = DeadSet(rig.store)
    job = dead.find(jid(1).decode())
    assert job is not None
    assert dead.retry(job)

    (record,) = records(rig)
    assert (record.kind, record.name, record.args) == (EndedKind.RETRIED, "Charge", [1])
    assert (record.digest, record.jid) == (digest(1).decode(), jid(1).decode())
    assert record.error == ""
    assert not dead.retry(job)  # it is not there any more
    assert len(records(rig)) == 1


@pytest.mark.usefixtures("_reconciled")
def test_all_dead_jobs_that_are_retried_are_told_and_those_without_a_key_are_not(rig: Rig) -> None:
    fail(rig, Kind.DEAD, 1, 2)
    fail(rig, Kind.DEAD, 3, unique=False)
    assert DeadSet(rig.store).retry_all().done == 3

    assert sorted(each.args[0] for each in records(rig)) == [1, 2]


@pytest.mark.usefixtures("_reconciled")
def test_a_dead_job_whose_key_another_holds_is_not_told(rig: Rig) -> None:
    fail(rig, Kind.DEAD, 1)
    rig.push(2, keys=[1])
    assert not DeadSet(rig.store).retry_all().done

    assert records(rig) == []


@pytest.mark.usefixtures("_reconciled")
def test_a_failed_job_that_is_retried_early_has_not_been_dead(rig: Rig) -> None:
    fail(rig, Kind.RETRY, 1)
    assert RetrySet(rig.store).retry_all().done == 1

    assert records(rig) == []


@pytest.mark.usefixtures("_reconciled")
def test_a_job_that_a_person_makes_dead_has_died(rig: Rig) -> None:
    rig.tell(1, versions=[b"aaaaaa"])
    rig.push(2, unique=False)
    assert Queue(store=rig.store).bury_all().done == 2

    (record,) = records(rig)
    assert (record.kind, record.args, record.version) == (EndedKind.DIED, [1], "aaaaaa")
    assert "a person made it dead" in record.error
    assert rig.lock(1) is None


@pytest.mark.usefixtures("_reconciled")
def test_a_job_that_is_deleted_by_hand_is_not_told_since_nobody_said_that_it_failed(
    rig: Rig,
) -> None:
    rig.push(1)
    assert Queue(store=rig.store).delete_all().done == 1
    fail(rig, Kind.DEAD, 2)
    assert DeadSet(rig.store).delete_all().done == 1

    assert records(rig) == []


@pytest.mark.usefixtures("_unreconciled")
def test_a_process_that_knows_no_reconciler_tells_one_that_reads(rig: Rig) -> None:
    fail(rig, Kind.DEAD, 1, 2)
    one, two = DeadSet(rig.store)
    DeadSet(rig.store).retry(one)
    assert rig.raw.exists("qik:ended") == 0  # nobody would ever take it away

    assert records(rig) == []
    DeadSet(rig.store).retry(two)
    assert [each.kind for each in records(rig)] == ["retried"]
