"""Job classes, kill switches over them, and what a worker does with them, by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qik_core import Job, registry, rows, settings
from qik_core.admission import Admission
from qik_core.capsule import Capsules
from qik_core.client import Client
from qik_core.gate import Gate
from qik_core.payload import Payload
from qik_core.settings import Settings
from qik_core.store.exchange import Done
from qik_core.switches import Rule, Snapshot
from tests.qik_core.store.rig import Worker
from tests.qik_core.telling import Table

NOW = 1_800_000_000.0
RECONCILED = Table()

WHY = Rule(source="sql", reason="double charging")


@contextmanager
def classes() -> Iterator[None]:
    """Charge is reconciled, the others are not; Note is not unique."""
    RECONCILED.others = frozenset(
        {"Mail", "Note", "Bill", "Long", "Billing::Sync", "Other", "Has Space"}
    )
    with registry.scope(empty=True), rows.filled(lambda: RECONCILED):

        class Charge(Job, unique_for=600):
            def perform(self, n: int) -> None: ...

        class Mail(Job, unique_for=600, aliases=["OldMail"]):
            def perform(self, n: int) -> None: ...

        class Bill(Job, unique_for=600, tenant="account"):
            def perform(self, n: int, account: str, kind: str = "plain") -> None: ...

        class Note(Job, on_unknown="stop"):
            def perform(self, n: int, text: str = "") -> None: ...

        yield


def switch(client: Client, **rules: Rule | tuple[Rule, ...]) -> None:
    """Switch these off, and nothing else."""
    board = client.gate.board
    made = {flag: each if isinstance(each, tuple) else (each,) for flag, each in rules.items()}
    assert board.take(Snapshot(board.snapshot.version + 1, made))


def gate_of(client: Client) -> Gate:
    """What a worker that has seen the same switches goes by."""
    return Gate(client.gate.board, registry.find, lambda: NOW)


@contextmanager
def using(url: str) -> Iterator[None]:
    """Let this be the Redis of the settings."""
    settings.use(Settings(redis=url))
    try:
        yield
    finally:
        settings.use(None)


def numbers(raw: Any, key: str) -> list[int]:
    """Return the arguments of the jobs of a list, the next one first."""
    return [Payload.decode(each).args[0] for each in reversed(raw.lrange(key, 0, -1))]


def work(worker: Worker, gate: Gate, *, suspects: bool = False) -> list[int]:
    """Fetch as a courier does; settle what the switches stop, and end the others. Returns the arguments of what ran."""
    capsules = Capsules([])
    admission = Admission(capsules, threading.Lock())
    admission.gate = gate
    worker.sequence += 1
    call = worker.store.prepare((), ["default"], 100, suspects=suspects)
    answer = worker.store.exchange(worker.rig.link, worker.sequence, call)
    free = admission.startable(answer.jobs)
    worker.sequence -= answer.status == "idle"
    worker.exchange(*capsules.done, *map(Done, free), want=0)
    return [Payload.decode(job.raw).args[0] for job in free]
