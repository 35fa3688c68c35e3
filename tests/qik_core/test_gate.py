"""Kill switches where jobs are pushed, fetched, started and released; on a real server, with a process's inside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import redis

from qik_core import Job, registry
from qik_core.client import Client
from qik_core.errors import StoreUnavailable
from qik_core.gate import Gate
from qik_core.passes import Passes
from qik_core.payload import Payload
from qik_core.plan import Plan
from qik_core.providers import SwitchSettings
from qik_core.releaser import Releaser
from qik_core.results import Advanced, Code, Duplicate, Enqueued, Refused
from qik_core.settings import Settings
from qik_core.store import MOST, Chunk, Sending, Store, held
from qik_core.store.exchange import Done, Fetched, Kind, Other
from qik_core.switches import Condition, Field, Operator, Rule, Snapshot
from tests.qik_core.acting import processor
from tests.qik_core.store.rig import Rig
from tests.qik_core.switched import NOW, WHY, classes, gate_of, numbers, switch, using, work
from tests.qik_core.telling import Table
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _own_names() -> Iterator[None]:
    with classes():
        yield


@pytest.fixture
def client(rig: Rig) -> Client:
    return Client(rig.store, now=lambda: NOW)


# --- at a push ---------------------------------------------------------------------


def test_an_edge_of_a_reconciled_class_is_refused_and_nothing_reaches_redis(
    client: Client, raw: redis.Redis
) -> None:
    switch(client, disable_charge=WHY)
    before = set(raw.keys("*"))

    assert client.push("Charge", [1]) == Refused("switch disable_charge", "double charging")
    assert set(raw.keys("*")) <= before | {b"qik:counts"}
    assert isinstance(client.push("Mail", [1]), Enqueued)


def test_what_was_refused_is_counted_by_its_flag(client: Client, raw: redis.Redis) -> None:
    switch(client, disable_charge=WHY)
    for n in range(3):
        client.push("Charge", [n])
    client.gate.board.flush()

    assert raw.hgetall("qik:switched") == {b"disable_charge": b"3"}


def test_an_edge_of_another_class_is_held_and_counts_as_enqueued(
    client: Client, raw: redis.Redis
) -> None:
    switch(client, disable_mail=WHY)
    first = client.push("Mail", [1])

    assert isinstance(first, Enqueued)
    assert client.push("Mail", [1]) == Duplicate(first.jid, Code.DUPLICATE_QUEUED)
    assert numbers(raw, "qik:held:Mail+") == [1]
    assert not raw.exists("queue:default")


def test_beyond_its_cap_an_edge_is_refused_and_told_why(client: Client, raw: redis.Redis) -> None:
    switch(client, disable_mail=WHY)
    raw.lpush("qik:held:Mail", *["x"] * 10_000)
    answer = client.push("Mail", [1])

    assert isinstance(answer, Refused)
    assert answer.by == "switch disable_mail"
    assert answer.reason.startswith("held_full: Mail")
    assert client.gate.board.snapshot.rules


def test_a_bulk_is_sorted_item_by_item(client: Client, raw: redis.Redis) -> None:
    definition = registry.find("Charge")
    assert definition is not None
    switch(client, disable_charge=Rule(percent=50))
    first = client.bulk(definition, [(n,) for n in range(1_200)], Plan())
    second = client.bulk(definition, [(n,) for n in range(1_200)], Plan())
    counts = first.counts

    assert counts[Code.ENQUEUED] + counts[Code.REFUSED] == 1_200
    assert 480 < counts[Code.REFUSED] < 720
    assert [code is Code.REFUSED for code in first] == [code is Code.REFUSED for code in second]
    assert [jid == "" for jid in first.jids] == [code is Code.REFUSED for code in first]
    assert raw.llen("queue:default") == counts[Code.ENQUEUED]


def test_a_pass_is_refused_the_rows_that_are_switched_off(rig: Rig) -> None:
    with using(rig.url):
        passes = Passes(rig.store)
        definition = registry.find("Charge")
        assert definition is not None
        job = type("Charge", (), {"definition": definition})
        only = Rule(where=(Condition(Field.KEY, Operator.IN, ("2", "3")),))
        passes.publish(Snapshot(1, {"disable_charge": (only,)}))
        told = passes.push(job, [(1,), (2,), (3,), (4,)])

    assert told.codes == [Code.ENQUEUED, Code.REFUSED, Code.REFUSED, Code.ENQUEUED]


def test_one_tenant_is_stopped_at_a_push_and_at_fetch_where_the_class_names_it(
    client: Client, raw: redis.Redis, rig: Rig
) -> None:
    for n, account in enumerate(["acme", "other", "acme"]):
        client.push("Bill", [n, account])
    acme = Condition(Field.TENANT, Operator.IN, ("acme",))
    switch(client, disable_bill=Rule(where=(acme,)), disable_mail=Rule(where=(acme,)))
    client.push("Bill", [3, "acme"])
    client.push("Bill", [4, "other"])
    client.push("Mail", [5])

    assert numbers(raw, "qik:held:Bill+") == [3]
    assert work(rig.worker(), gate_of(client)) == [1, 4, 5]
    assert numbers(raw, "qik:held:Bill") == [0, 2]


def test_a_scheduled_edge_of_a_held_class_waits_for_its_time(
    client: Client, raw: redis.Redis
) -> None:
    switch(client, disable_mail=WHY)

    assert isinstance(client.push("Mail", [1], wait=60), Enqueued)
    assert raw.zcard("schedule") == 1


def test_an_edge_that_advances_is_held_when_it_is_fetched(
    client: Client, raw: redis.Redis, rig: Rig
) -> None:
    client.push("Mail", [1], wait=60)
    switch(client, disable_mail=WHY)

    assert isinstance(client.push("Mail", [1]), Advanced)
    assert work(rig.worker(), gate_of(client)) == []
    assert numbers(raw, "qik:held:Mail") == [1]


def test_the_queue_that_a_middleware_chose_is_the_one_that_counts(rig: Rig) -> None:
    def to_low(job: Payload, call: Callable[[Payload], Any]) -> Any:
        return call(job.replace(queue="low"))

    client = Client(rig.store, Settings(client_middleware=(to_low,)), now=lambda: NOW)
    switch(client, disable_queue_low=WHY)

    assert isinstance(client.push("Charge", [1]), Refused)


def test_a_class_that_only_a_reconciler_elsewhere_tells_is_refused_not_held(client: Client) -> None:
    rules = {"disable_mail": (WHY,)}
    client.gate.board.take(Snapshot(1, rules, reconciled=frozenset({"Mail"})))

    assert isinstance(client.push("Mail", [1]), Refused)


def test_a_push_looks_at_the_switches_once_a_second_and_survives_their_absence(
    rig: Rig, raw: redis.Redis
) -> None:
    with using(rig.url):
        client = Client(rig.store)
        client.push("Charge", [1])
        Passes(Store(rig.url, birth_ms=0)).publish(Snapshot(1, {"disable_charge": (WHY,)}))
        eventually(lambda: isinstance(client.push("Charge", [2]), Refused), every=0.05)
        raw.flushall()
        time_is_up = time.monotonic() + 1.1
        eventually(lambda: time.monotonic() > time_is_up, every=0.1)
        assert isinstance(client.push("Charge", [3]), Refused)


def test_a_vain_look_at_the_switches_is_taken_off_the_patience_of_the_first_chunk_only(
    rig: Rig,
) -> None:
    spent = []

    class Hung(Store):
        def switches(self, version: int, counts: Mapping[str, int]) -> bytes:
            raise StoreUnavailable("gone")

        def send(self, chunk: Chunk, **given: Any) -> Sending:
            spent.append(given["spent"])
            return super().send(chunk, **given)

    definition = registry.find("Note")
    assert definition is not None
    store = Hung(rig.url, birth_ms=0)
    Client(store).bulk(definition, [(n, "") for n in range(MOST + 1)], Plan())
    store.close()

    assert [each > 0 for each in spent] == [True, False]


def test_a_process_that_was_forked_sees_switches_that_are_turned_later(rig: Rig) -> None:
    code = f"""
import os, time
from qik_core import configure, push
from qik_core.passes import Passes
from qik_core.switches import Rule, Snapshot

configure(redis={rig.url!r})
passes = Passes()
passes.publish(Snapshot(1, {{}}))
assert push("Charge", [1])
if os.fork() == 0:
    passes.publish(Snapshot(2, {{"disable_charge": (Rule(),)}}, reconciled=frozenset(["Charge"])))
    deadline = time.monotonic() + 20
    while push("Charge", [2]).told and passes.switches().rules and time.monotonic() < deadline:
        time.sleep(0.05)
    os._exit(push("Charge", [3]).told)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )

    assert ran.returncode == 0, ran.stderr


def test_what_nobody_has_ever_known_stops_only_classes_that_say_so(rig: Rig) -> None:
    named = Settings(switches=SwitchSettings(file="switches.toml"))
    client = Client(rig.store, named, now=lambda: NOW)

    assert isinstance(client.push("Charge", [1]), Enqueued)
    assert isinstance(client.push("Note", [1]), Enqueued)
    assert [each.name for each in held.held(rig.link.call)] == ["Note"]
    client.gate.board.take(Snapshot(1, {}))
    client.push("Note", [2])
    assert rig.raw.llen("queue:default") == 2


def test_a_job_that_is_not_defined_here_is_held_by_its_name(
    client: Client, raw: redis.Redis
) -> None:
    switch(client, disable_billing_sync=WHY, disable_queue_ruby=WHY)
    client.push("Billing::Sync", [1])
    client.push("Other", [2], queue="ruby")

    assert numbers(raw, "qik:held:Billing::Sync+") == [1]
    assert numbers(raw, "qik:held:Other+") == [2]


def test_when_redis_is_away_a_push_says_so_in_time(client: Client) -> None:
    client.gate.board.look(client.store.switches)
    away = Client(Store("redis://127.0.0.1:1/0"))
    began = time.monotonic()
    with pytest.raises(Exception, match="Nothing was written"):
        away.push("Charge", [1])

    assert time.monotonic() - began < 8  # 3 s, and a machine with other things to do


# --- at fetch and at start -----------------------------------------------------------


def test_what_was_queued_is_dropped_or_held_before_a_thread_gets_it(
    client: Client, raw: redis.Redis, rig: Rig
) -> None:
    for n in range(4):
        client.push("Charge", [n])
        client.push("Mail", [10 + n])
    client.push("Note", [20])
    switch(client, disable_charge=WHY, disable_mail=WHY)

    assert work(rig.worker(), gate_of(client)) == [20]
    assert numbers(raw, "qik:held:Mail") == [10, 11, 12, 13]
    assert raw.hgetall("qik:switched") == {b"disable_charge": b"4"}
    assert rig.locks() == 4


def test_an_alias_is_held_under_the_name_of_its_class(
    client: Client, raw: redis.Redis, rig: Rig
) -> None:
    job = {"class": "OldMail", "args": [1], "jid": "a1", "queue": "default"}
    raw.lpush("queue:default", json.dumps(job))
    switch(client, disable_mail=WHY)
    work(rig.worker(), gate_of(client))

    assert numbers(raw, "qik:held:Mail") == [1]


def test_a_job_of_ruby_is_held_as_it_is_and_comes_back_to_its_queue(
    client: Client, raw: redis.Redis, rig: Rig
) -> None:
    job = json.dumps({"class": "Note", "args": [1], "jid": "a1", "queue": "default", "x": 1.0})
    raw.lpush("queue:default", job)
    switch(client, disable_note=WHY)
    work(rig.worker(), gate_of(client))
    assert raw.lrange("qik:held:Note", 0, -1) == [job.encode()]
    switch(client)
    Releaser(gate_of(client)).look(rig.link)

    assert raw.lrange("queue:default", 0, -1) == [job.encode()]


@pytest.mark.parametrize(
    "raw_job",
    [
        b"\xff\xfe",
        b"{}",
        b'{"class":7}',
        b'{"class":"Has Space","args":[1],"jid":"a","queue":"default"}',
        b'{"qik":"-","jid":"a","queue":"default","class":"Note","args":{}}',
    ],
)
def test_bytes_that_are_no_job_pass_the_switches_and_are_told_by_the_run(
    client: Client, raw_job: bytes
) -> None:
    switch(client, disable_queue_default=WHY, disable_note=WHY)

    assert gate_of(client).over(Fetched(b"1.1", raw_job, "default")) is None


def test_arguments_that_do_not_fit_have_no_key_and_are_left_to_the_run(client: Client) -> None:
    where = Condition(Field.KEY, Operator.NOT_IN, ("7",))
    switch(client, disable_charge=Rule(where=(where,)))
    raw_job = b'{"qik":"-","jid":"a","queue":"default","class":"Charge","args":["x",2]}'

    assert gate_of(client).over(Fetched(b"1.1", raw_job, "default")) is None


def test_a_job_that_was_fetched_before_the_switch_is_stopped_at_its_start(client: Client) -> None:
    works = processor(rows=None)
    works.gate = gate_of(client)
    raw_job = b'{"qik":"-","jid":"a","queue":"default","class":"Note","args":[1]}'
    job = Fetched(b"1.1", raw_job, "default")
    assert works.process(job, lambda _: None) == Done(job)
    switch(client, disable_note=WHY)
    stopped = works.process(job, lambda _: None)

    assert isinstance(stopped, Other)
    assert (stopped.kind, stopped.queue, stopped.failed) == (Kind.HELD, "Note", False)


def test_a_run_that_is_asked_to_stop_by_a_switch_is_held_or_dropped_as_any_other(
    client: Client,
) -> None:
    with registry.scope():

        class Long(Job):
            def perform(self, n: int) -> None:
                switch(client, disable_long=Rule(cancel=True))
                self.context.cancel()
                self.context.checkpoint()

        works = processor(rows=None)
        works.gate = gate_of(client)
        raw_job = b'{"qik":"-","jid":"a","queue":"default","class":"Long","args":[1]}'
        job = Fetched(b"1.1", raw_job, "default")
        stopped = works.process(job, lambda _: None)
        asked = gate_of(client).cancelled([job])

    assert isinstance(stopped, Other)
    assert stopped.kind is Kind.HELD
    assert asked == [b"1.1"]


def test_a_switch_that_does_not_say_so_leaves_runs_alone(client: Client) -> None:
    switch(client, disable_note=WHY)
    raw_job = b'{"qik":"-","jid":"a","queue":"default","class":"Note","args":[1]}'

    assert gate_of(client).cancelled([Fetched(b"1.1", raw_job, "default")]) == []


def test_who_cannot_say_whether_a_class_is_reconciled_has_its_jobs_held(client: Client) -> None:
    class Broken(Table):
        def reconciled(self, name: str, /) -> bool:
            raise RuntimeError("no")

    gate = Gate(client.gate.board, registry.find, lambda: NOW, Broken)
    switch(client, disable_charge=WHY)
    raw_job = b'{"qik":"-","jid":"a","queue":"default","class":"Charge","args":[1]}'
    stopped = gate.over(Fetched(b"1.1", raw_job, "default"))

    assert isinstance(stopped, Other)
    assert stopped.kind is Kind.HELD
