from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from qik_core import (
    Advanced,
    ArgumentError,
    Code,
    Dirtied,
    Duplicate,
    Enqueued,
    Job,
    NotEnqueued,
    Payload,
    Refused,
)
from qik_core.middleware import ClientResult, Next
from qik_core.passes import Passes
from qik_core.settings import configure
from qik_core.testing import Fake, MisusedMode, NothingEnqueued, fake
from tests.qik_core.testing.jobs_of_apps import (
    Charge,
    Mail,
    Once,
    Tree,
    done,
    mails,
)


def test_a_push_is_kept_and_not_performed(jobs: Fake) -> None:
    result = Charge.perform_async(7, UUID(int=1))

    (waiting,) = jobs.jobs
    assert isinstance(result, Enqueued)
    assert (waiting.name, waiting.args, waiting.queue, waiting.at) == (
        "Charge",
        (7, UUID(int=1)),
        "billing",
        None,
    )
    assert waiting.jid == result.jid
    assert done == []


def test_a_push_makes_the_payload_that_redis_would_get(jobs: Fake) -> None:
    Charge.perform_async(7, UUID(int=1))

    payload = jobs.jobs[0].payload
    assert payload.args == [7, "00000000-0000-0000-0000-000000000001"]
    assert payload["retry"] == 8
    assert Payload.decode(payload.encode()).fields == payload.fields


def test_arguments_that_cannot_travel_are_refused_as_in_production(jobs: Fake) -> None:
    with pytest.raises(ArgumentError, match="invoice_id"):
        Charge.perform_async("7", UUID(int=1))  # type: ignore[arg-type]

    assert jobs.jobs == []


def test_jobs_are_looked_up_by_class_by_name_and_by_queue(jobs: Fake) -> None:
    Charge.perform_async(1, UUID(int=1))
    Mail.perform_async("a@example.org")
    Mail.set(queue="slow").perform_async("b@example.org")
    Mail.perform_in(60, "c@example.org")

    assert [each.args[0] for each in jobs.jobs_of(Mail)] == [
        "a@example.org",
        "b@example.org",
        "c@example.org",
    ]
    assert jobs.jobs_of("Mail") == jobs.jobs_of(Mail)
    assert [each.name for each in jobs.queued("billing")] == ["Charge"]
    assert [each.args[0] for each in jobs.queued("mail")] == ["a@example.org"]
    assert [each.args[0] for each in jobs.scheduled] == ["c@example.org"]
    assert len(jobs) == 4


def test_an_empty_fake_is_true_so_that_it_can_be_passed_on(jobs: Fake) -> None:
    assert jobs
    assert len(jobs) == 0


def test_drain_performs_jobs_and_those_that_they_push(jobs: Fake) -> None:
    Tree.perform_async(3)

    assert jobs.drain() == 1 + 2 + 4 + 8
    assert sorted(done) == sorted([3, 2, 2, 1, 1, 1, 1, *[0] * 8])
    assert jobs.jobs == []
    assert len(jobs.performed) == 15


def test_drain_performs_in_the_order_of_pushes_and_scheduled_jobs_as_they_are_due(
    jobs: Fake,
) -> None:
    Tree.perform_in(60, -1)
    Tree.perform_in(30, -2)
    Tree.perform_async(-3)
    Tree.set(queue="other").perform_async(-4)

    jobs.drain()

    assert done == [-3, -4, -2, -1]


def test_drain_may_leave_scheduled_jobs_and_other_classes(jobs: Fake) -> None:
    Tree.perform_async(0)
    Tree.perform_in(30, 0)
    Mail.perform_async("a@example.org")

    assert jobs.drain(Tree, scheduled=False) == 1
    assert [each.name for each in jobs.jobs] == ["Mail", "Tree"]


def test_drain_goes_through_the_server_middleware(jobs: Fake) -> None:
    seen: list[str] = []

    def outer(each: Payload, call_next: Next[None]) -> None:
        seen.append(f"before {each.class_name}")
        call_next(each)
        seen.append("after")

    configure(server_middleware=[outer])
    Mail.perform_async("a@example.org")

    jobs.drain()

    assert seen == ["before Mail", "after"]
    assert mails(done) == ["a@example.org"]


def test_a_job_that_a_server_middleware_skips_is_dropped_and_says_by_whom(jobs: Fake) -> None:
    def switch(each: Payload, call_next: Next[None]) -> None:
        """Skip everything."""

    configure(server_middleware=[switch])
    Mail.perform_async("a@example.org")

    assert jobs.drain() == 1
    assert done == []
    assert "switch" in jobs.dropped[0].reason


def test_client_middleware_runs_and_may_refuse(jobs: Fake) -> None:
    def tenant(each: Payload, call_next: Next[ClientResult]) -> ClientResult:
        if each.args == ["nobody@example.org"]:
            return Refused("tenant", "no such address")
        return call_next(each.replace(tenant="t1", queue="moved"))

    configure(client_middleware=[tenant])

    assert Mail.perform_async("a@example.org")
    assert Mail.perform_async("nobody@example.org") == Refused("tenant", "no such address")
    (waiting,) = jobs.jobs
    assert (waiting.queue, waiting.payload["tenant"]) == ("moved", "t1")


def test_a_unique_job_meets_its_duplicates_as_in_redis(jobs: Fake) -> None:
    first = Once.perform_async(1)
    second = Once.perform_async(1)
    other = Once.perform_async(2)

    assert isinstance(first, Enqueued)
    assert second == Duplicate(first.jid, Code.DUPLICATE_QUEUED)
    assert isinstance(other, Enqueued)
    assert len(jobs) == 2

    jobs.drain()
    assert isinstance(Once.perform_async(1), Enqueued)


def test_a_scheduled_unique_job_is_advanced(jobs: Fake) -> None:
    first = Once.perform_in(60, 1)
    assert isinstance(first, Enqueued)

    assert Once.perform_async(1) == Advanced(first.jid)
    assert [each.jid for each in jobs.queued("default")] == [first.jid]
    assert jobs.scheduled == []


def test_a_job_that_is_pushed_while_it_runs_runs_once_more(jobs: Fake) -> None:
    said: list[Any] = []

    class Again(Job, unique_for=timedelta(minutes=1)):
        def perform(self, number: int) -> None:
            done.append(number)
            if len(done) == 1:
                said.append(Again.perform_async(number))

    Again.perform_async(5)

    assert jobs.drain() == 2
    assert isinstance(said[0], Dirtied)
    assert done == [5, 5]
    assert isinstance(Again.perform_async(5), Enqueued)


def test_the_lock_of_a_failed_or_cleared_job_is_freed(jobs: Fake) -> None:
    class Breaks(Job, unique_for=60):
        def perform(self) -> None:
            raise ValueError("it breaks")

    Breaks.perform_async()
    with pytest.raises(ValueError, match="it breaks"):
        jobs.drain()
    assert isinstance(Breaks.perform_async(), Enqueued)

    assert jobs.clear() == 1
    assert isinstance(Breaks.perform_async(), Enqueued)


def test_clear_may_forget_one_class(jobs: Fake) -> None:
    Mail.perform_async("a@example.org")
    Tree.perform_async(0)

    assert jobs.clear(Mail) == 1
    assert [each.name for each in jobs.jobs] == ["Tree"]


def test_perform_in_at_bulk_and_set_are_honoured(jobs: Fake) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    Mail.perform_at(moment, "at")
    Mail.set(wait=timedelta(hours=1), queue="slow").perform_async("in")
    result = Mail.perform_bulk([(f"{n}",) for n in range(1200)], jitter=timedelta(minutes=5))

    assert result.counts == {Code.ENQUEUED: 1200}
    by_address = {each.args[0]: each for each in jobs.jobs}
    assert by_address["at"].at == moment
    assert by_address["in"].queue == "slow"
    assert len(by_address) == 1202
    spread = [each.at for each in jobs.scheduled if each.args[0].isdigit()]
    assert len(set(spread)) > 1000


def test_the_same_jid_within_half_a_minute_is_the_same_push() -> None:
    clock = [time.time()]
    with fake(now=lambda: clock[0]) as jobs:
        Mail.set(jid="one").perform_async("a@example.org")
        assert Mail.set(jid="one").perform_async("a@example.org") == Enqueued("one")
        assert len(jobs) == 1
        clock[0] += 31

        Mail.set(jid="one").perform_async("a@example.org")
        assert len(jobs) == 2


def test_perform_one_performs_the_next_or_the_next_of_a_class(jobs: Fake) -> None:
    Tree.perform_async(0)
    Mail.perform_async("a@example.org")
    Mail.perform_async("b@example.org")

    assert jobs.perform_one(Mail).args == ("a@example.org",)
    assert jobs.perform_one().name == "Tree"
    assert len(jobs) == 1


def test_perform_one_with_nothing_to_perform_says_what_there_is(jobs: Fake) -> None:
    with pytest.raises(NothingEnqueued, match=r"no job waits.*\n  nothing"):
        jobs.perform_one()

    Mail.perform_async("a@example.org")
    with pytest.raises(NothingEnqueued, match=r"no job of Tree waits.*\n  Mail\('a@example.org'\)"):
        jobs.perform_one(Tree)


def test_a_push_from_another_thread_is_kept_too(jobs: Fake) -> None:
    thread = threading.Thread(target=Mail.perform_async, args=("a@example.org",))
    thread.start()
    thread.join()

    assert len(jobs) == 1


def test_a_push_from_a_forked_process_is_refused(jobs: Fake) -> None:
    pid = os.fork()
    if pid == 0:  # nothing of pytest may run here
        try:
            Mail.perform_async("a@example.org")
        except NotEnqueued as error:
            os._exit(0 if "use real()" in str(error) else 2)
        os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_asking_for_redis_says_that_there_is_none(jobs: Fake) -> None:
    from qik_core import client

    with pytest.raises(MisusedMode, match=r"fake\(\) keeps jobs in memory.*use real\(\)"):
        client.current().store.links.call("PING")


def test_passes_of_a_reconciler_push_into_memory(jobs: Fake) -> None:
    passes = Passes()
    rows = [(1,), (2,)]

    told = passes.push(Once, rows)
    assert told.codes == [Code.ENQUEUED] * 2
    assert passes.told(passes.digests(Once, [*rows, (3,)])) == [True, True, False]
    assert passes.push(Once, rows).codes == [Code.DUPLICATE_QUEUED] * 2
    assert not passes.audit(["default"])
    assert passes.look() == told.epoch
    assert len(jobs) == 2
