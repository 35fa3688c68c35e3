from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from qik_core import registry
from qik_core.client import Client
from qik_core.errors import StoreUnavailable
from qik_core.gate import Gate
from qik_core.payload import Payload
from qik_core.plan import Plan
from qik_core.releaser import Releaser
from qik_core.store import held
from qik_core.store.link import Link
from qik_core.switches import Condition, Field, Operator, Rule
from tests.qik_core.store.rig import Rig
from tests.qik_core.switched import NOW, WHY, classes, gate_of, numbers, switch, work


@pytest.fixture(autouse=True)
def _own_names() -> Iterator[None]:
    with classes():
        yield


@pytest.fixture
def client(rig: Rig) -> Client:
    return Client(rig.store, now=lambda: NOW)


def test_held_jobs_come_back_in_the_order_in_which_they_were_pushed(
    client: Client, raw: redis.Redis, rig: Rig
) -> None:
    for n in range(20):
        client.push("Mail", [n])
    switch(client, disable_mail=WHY)
    for n in range(20, 40):
        client.push("Mail", [n])
    worker, gate = rig.worker(), gate_of(client)
    assert work(worker, gate) == []
    for n in range(40, 60):
        client.push("Mail", [n])
    releaser = Releaser(gate)
    assert releaser.look(rig.link) == float("inf")
    switch(client)
    ran: list[int] = []
    for _ in range(2):
        assert releaser.look(rig.link) == held.EVERY_MS / 1000
        raw.delete("qik:released:Mail")
        ran += work(worker, gate)

    assert ran == list(range(60))
    assert rig.locks() == 0
    assert held.held(rig.link.call) == []


def test_a_job_that_runs_alone_does_so_also_after_it_was_held(
    client: Client, raw: redis.Redis, rig: Rig
) -> None:
    client.push("Mail", [1])
    client.push("Mail", [2])
    first = raw.rpop("queue:default")
    assert isinstance(first, bytes)
    raw.lpush("qik:suspect:default", Payload.decode(first).replace(deaths=2).encode())
    raw.decr("qik:n:queue:default")
    raw.incr("qik:n:qik:suspect:default")
    raw.sadd("qik:suspects", "default")
    switch(client, disable_mail=WHY)
    worker, gate = rig.worker(), gate_of(client)
    assert work(worker, gate) == []
    assert work(worker, gate, suspects=True) == []
    assert (numbers(raw, "qik:held:Mail"), raw.smembers("qik:suspects")) == ([2, 1], set())
    switch(client)
    Releaser(gate).look(rig.link)

    assert (numbers(raw, "queue:default"), numbers(raw, "qik:suspect:default")) == ([2], [1])
    assert raw.smembers("qik:suspects") == {b"default"}
    assert rig.store.audit(["default"]) == 0


def test_bytes_that_are_no_job_are_released_too_and_keep_no_others_waiting(
    client: Client, raw: redis.Redis, rig: Rig
) -> None:
    switch(client, disable_mail=WHY)
    client.push("Mail", [1])
    garbage = b'{"class":"Mail","deaths":2,'
    raw.rpush("qik:held:Mail", garbage)  # the first to be released
    switch(client)

    Releaser(gate_of(client)).look(rig.link)
    raw.delete("qik:released:Mail")
    Releaser(gate_of(client)).look(rig.link)

    assert raw.rpop("queue:default") == garbage
    assert numbers(raw, "queue:default") == [1]


def test_at_most_five_hundred_a_second_are_released_however_many_processes_look(
    client: Client, raw: redis.Redis, rig: Rig
) -> None:
    switch(client, disable_note=WHY)
    definition = registry.find("Note")
    assert definition is not None
    client.bulk(definition, [(n, "") for n in range(1_000)], Plan())
    switch(client)
    releasers = [Releaser(gate_of(client)) for _ in range(5)]
    for releaser in releasers:
        releaser.look(rig.link)

    assert raw.llen("queue:default") == held.AT_ONCE
    assert numbers(raw, "queue:default") == list(range(held.AT_ONCE))
    assert 0 < raw.pttl("qik:released:Note") <= held.EVERY_MS


def test_as_a_switch_is_turned_back_the_keys_that_run_are_released_and_no_others(
    client: Client, raw: redis.Redis, rig: Rig
) -> None:
    switch(client, disable_mail=WHY)
    for n in range(40):
        client.push("Mail", [n])
    gate = gate_of(client)
    seven = Condition(Field.KEY, Operator.NOT_IN, ("7", "9"))
    switch(client, disable_mail=Rule(where=(seven,)))
    releaser = Releaser(gate)
    releaser.look(rig.link)

    assert numbers(raw, "queue:default") == [7, 9]
    assert len(numbers(raw, "qik:held:Mail+")) == 38
    assert releaser.look(rig.link) == float("inf")


def test_a_rule_that_expires_by_itself_lets_its_jobs_go(
    client: Client, raw: redis.Redis, rig: Rig
) -> None:
    switch(client, disable_mail=Rule(expires_at=NOW + 5))
    client.push("Mail", [1])
    at = [NOW]
    releaser = Releaser(Gate(client.gate.board, registry.find, lambda: at[0]))
    releaser.look(rig.link)
    assert not raw.exists("queue:default")
    at[0] += 5
    releaser.look(rig.link)

    assert numbers(raw, "queue:default") == [1]


def test_a_rule_for_all_queues_but_some_lets_jobs_of_those_go_and_no_others(
    client: Client, raw: redis.Redis, rig: Rig
) -> None:
    switch(client, disable_mail=WHY)
    client.push("Mail", [1])
    client.push("Mail", [2], queue="low")
    but_low = Condition(Field.QUEUE, Operator.NOT_IN, ("low",))
    switch(client, disable_mail=Rule(where=(but_low,)))
    Releaser(gate_of(client)).look(rig.link)

    assert numbers(raw, "queue:low") == [2]
    assert numbers(raw, "qik:held:Mail+") == [1]


def test_a_spoiled_class_does_not_keep_the_others_held(
    client: Client, raw: redis.Redis, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    switch(client, disable_mail=WHY, disable_note=WHY)
    client.push("Mail", [1])
    client.push("Note", [2])
    raw.delete("qik:held:Mail+")
    raw.set("qik:held:Mail", "x")
    switch(client)
    Releaser(gate_of(client)).look(rig.link)

    assert numbers(raw, "queue:default") == [2]
    assert "held jobs of a class could not be released" in caplog.text


def test_a_releaser_tells_of_an_outage(client: Client) -> None:
    with pytest.raises(StoreUnavailable):
        Releaser(gate_of(client)).look(Link("redis://127.0.0.1:1/0"))
