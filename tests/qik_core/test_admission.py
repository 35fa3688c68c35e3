"""What a courier lets its threads have when the kill switches themselves are broken; on a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from qik_core import hooks, registry
from qik_core.admission import Admission
from qik_core.capsule import Capsule, Capsules
from qik_core.client import Client
from qik_core.context import Context
from qik_core.crew import Crew
from qik_core.definition import Definition
from qik_core.gate import Gate
from qik_core.releaser import Releaser
from qik_core.store.exchange import Fetched, Kind, Other
from qik_core.switches import Rule
from tests.qik_core.acting import processor
from tests.qik_core.store.rig import Rig
from tests.qik_core.switched import NOW, WHY, classes, gate_of, numbers, switch, work
from tests.waiting import eventually

RAW = b'{"qik":"-","jid":"a","queue":"default","class":"Mail","args":[1]}'


@pytest.fixture(autouse=True)
def _own_names() -> Iterator[None]:
    with classes():
        yield


@pytest.fixture
def client(rig: Rig) -> Client:
    return Client(rig.store, now=lambda: NOW)


def broken(client: Client, name: str = "Mail") -> Gate:
    """A gate that cannot say anything of one class."""

    def find(asked: str) -> Definition | None:
        if asked == name:
            raise RuntimeError(f"no word on {name}")
        return registry.find(asked)

    return replace(gate_of(client), find=find)


def test_a_gate_that_cannot_say_keeps_no_job_from_being_settled(client: Client, rig: Rig) -> None:
    errors: list[str] = []
    hooks.on_error(lambda error, _: errors.append(str(error)))
    client.push("Mail", [1])
    client.push("Note", [2])
    client.push("Charge", [3])
    switch(client, disable_charge=WHY)
    worker = rig.worker()

    assert work(worker, broken(client)) == [1, 2]
    assert (worker.held, rig.locks()) == (0, 0)
    eventually(lambda: errors == ["no word on Mail"])


def test_jobs_that_wait_in_a_pocket_stay_there_when_the_gate_cannot_say(client: Client) -> None:
    crew = Crew(processor().process, [lambda _: None], lambda: None)
    jobs = [Fetched(b"1.%d" % n, RAW, "default") for n in range(3)]
    crew.pocket.extend(jobs)
    capsules = Capsules([Capsule("default", crew, list, {"default": 1})])
    admission = Admission(capsules, threading.Lock())
    switch(client, disable_charge=WHY)
    admission.gate = broken(client)
    admission.supersede({b"1.1"})

    assert list(crew.pocket) == [jobs[0], jobs[2]]
    assert [outcome.job for outcome in capsules.done] == [jobs[1]]


def test_a_run_of_which_the_gate_cannot_say_whether_it_may_begin_is_set_aside_not_run(
    client: Client,
) -> None:
    switch(client, disable_mail=WHY)
    works = processor(rows=None)
    entered: list[Context] = []
    works.gate = broken(client)
    outcome = works.process(Fetched(b"1.1", RAW, "default"), entered.append)

    assert isinstance(outcome, Other)
    assert (outcome.kind, entered) == (Kind.DEAD, [])


def test_a_run_of_which_the_gate_cannot_say_goes_on_and_the_others_are_asked_to_stop(
    client: Client,
) -> None:
    switch(client, disable_mail=Rule(cancel=True), disable_note=Rule(cancel=True))
    running = [
        Fetched(b"1.1", RAW, "default"),
        Fetched(b"1.2", RAW.replace(b"Mail", b"Note"), "default"),
    ]

    assert broken(client).cancelled(running) == [b"1.2"]


def test_held_jobs_of_which_the_gate_cannot_say_stay_held_and_keep_no_others_waiting(
    client: Client, raw: redis.Redis, rig: Rig
) -> None:
    switch(client, disable_mail=WHY, disable_note=WHY)
    client.push("Mail", [1])
    client.push("Note", [2])
    switch(client, disable_mail=Rule(percent=50))
    Releaser(broken(client)).look(rig.link)

    assert numbers(raw, "queue:default") == [2]
    assert numbers(raw, "qik:held:Mail+") == [1]
