from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from qik_core import Job, registry
from qik_core.adoption import AdoptingStore, adopted, foreign
from qik_core.payload import Payload
from qik_core.store.exchange import Answer, Done, Fetched, Status
from qik_core.store.link import Link
from qik_core.store.store import Candidate
from qik_core.store.worker import Limits


@pytest.fixture(autouse=True)
def _charge() -> Iterator[None]:
    with registry.scope(empty=True):

        class Charge(Job, unique_for=timedelta(minutes=1)):
            def perform(self, n: int) -> None: ...

        class Plain(Job):
            def perform(self, n: int) -> None: ...

        yield


def job(**fields: Any) -> Fetched:
    whole = {"class": "Charge", "args": [7], "jid": "ruby1", **fields}
    return Fetched(b"1.1", json.dumps(whole).encode(), "low")


def test_only_what_begins_without_our_header_is_foreign() -> None:
    ours = Fetched(b"1.2", b'{"qik":"-","jid":"a","queue":"low","class":"X","args":[]}', "low")
    assert foreign([job(), ours]) == [job()]


def test_a_rubys_push_of_a_unique_job_gets_the_key_that_our_own_push_has() -> None:
    found = adopted(job(), registry.find)
    definition = registry.find("Charge")
    assert found is not None
    assert definition is not None

    payload = Payload.decode(found.raw)
    assert found.raw.startswith(b'{"qik":"')
    assert payload["qik"] == definition.digests([(7,)])[0].decode() + "S60"
    assert (payload.jid, payload.queue, found.field) == ("ruby1", "low", b"1.1")


@pytest.mark.parametrize("jid", [None, 5, "", "x" * 65, "a b"])
def test_one_without_a_jid_that_can_be_gets_one(jid: object) -> None:
    found = adopted(job(jid=jid), registry.find)
    assert found is not None
    assert len(Payload.decode(found.raw).jid) == 24


def test_our_own_job_that_ruby_wrote_anew_keeps_the_lock_that_it_names() -> None:
    mark = "abcdefghijklmnopqrstuvS60"
    found = adopted(job(qik=mark, **{"class": "Elsewhere"}), registry.find)
    assert found is not None
    assert Payload.decode(found.raw)["qik"] == mark


@pytest.mark.parametrize(
    "fields",
    [{"class": "Plain"}, {"class": "Nobody"}, {"args": ["x"]}, {"args": []}, {"args": {}}],
)
def test_what_has_no_lock_or_cannot_run_is_left_as_it_is(fields: dict[str, Any]) -> None:
    assert adopted(job(**fields), registry.find) is None
    assert adopted(Fetched(b"1.1", b"[]", "low"), registry.find) is None


# --- with a server -------------------------------------------------------------------


class Process:
    """A process that exchanges by hand."""

    def __init__(self, url: str) -> None:
        self.link = Link(url)
        self.identity = f"host:1:{os.urandom(4).hex()}"
        limits = Limits(heartbeat=0.5, lease=3.0)
        self.store = AdoptingStore(self.identity, limits, Candidate(0), registry.find)
        self.store.hold(self.link, (), mark="0:0")

    def exchange(self, sequence: int, *jobs: Fetched) -> Answer:
        outcomes = [Done(job) for job in jobs]
        return self.store.exchange(
            self.link, sequence, self.store.prepare(outcomes, ("default",), 10)
        )


def ruby_pushes(raw: Any, *jids: str, n: int = 7) -> None:
    for jid in jids:
        raw.lpush("queue:default", json.dumps({"class": "Charge", "args": [n], "jid": jid}))


def test_a_rubys_unique_job_runs_under_its_lock_and_a_second_copy_is_dropped(
    redis_url: str, raw: Any
) -> None:
    first, second = Process(redis_url), Process(redis_url)
    ruby_pushes(raw, "r1")
    (job,) = first.exchange(1).jobs
    ruby_pushes(raw, "r2", "r3")
    late = second.exchange(1)

    assert (late.jobs, late.superseded) == ([], 2)
    assert raw.hget("qik:counts", "superseded") == b"2"
    first.exchange(2, job)
    ruby_pushes(raw, "r4")
    assert [Payload.decode(job.raw).jid for job in second.exchange(2).jobs] == ["r4"]


def test_a_re_sent_exchange_adopts_no_second_time(redis_url: str, raw: Any) -> None:
    process = Process(redis_url)
    ruby_pushes(raw, "r1")
    (job,), again = process.exchange(1).jobs, process.exchange(1)

    assert (again.status, list(again.jobs)) == (Status.AGAIN, [job])


def test_a_process_that_is_fenced_in_between_gets_nothing(redis_url: str, raw: Any) -> None:
    process = Process(redis_url)
    ruby_pushes(raw, "r1")
    adopt = process.store.adopt

    def fenced_first(link: Link, jobs: Any) -> set[bytes] | None:
        raw.hset(f"qik:working:{process.identity}", "#", "fenced")
        return adopt(link, jobs)

    process.store.adopt = fenced_first  # type: ignore[method-assign]
    answer = process.exchange(1)
    assert (answer.status, answer.jobs) == (Status.FENCED, ())
