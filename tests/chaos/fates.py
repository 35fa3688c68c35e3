"""What becomes of the jobs of a path, by their numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from qik_core.payload import Payload
from qik_core.store import recovery
from qik_core.store.ended import EndedKind, note
from qik_core.store.exchange import Done, Fetched, Kind, Other, Outcome
from tests.qik_core.store.rig import digest

NOTED: Final = {
    2: EndedKind.NO_PROGRESS,
    4: EndedKind.TERMINAL,
    6: EndedKind.DIED,
    7: EndedKind.CRASHED,
}


def settled(job: Fetched) -> Outcome:
    """Decide by its number what becomes of a job."""
    kinds = {3: Kind.RETRY, 4: Kind.DEAD, 5: Kind.BACK, 6: Kind.GONE}
    payload = Payload.decode(job.raw)
    kind = kinds.get(payload.args[0])
    if kind is None:
        return Done(job)
    delay = 60.0 if kind is Kind.RETRY else 0.0
    after = payload.replace(retry_count=0).encode()
    return Other(job, kind, payload.unique, payload.jid, job.queue, after, delay)


def stopped(job: Fetched) -> Outcome:
    """Decide by its number what a kill switch makes of a job: an even one is told again, an odd one is held."""
    payload = Payload.decode(job.raw)
    unique, jid = payload.unique, payload.jid
    if payload.args[0] % 2:
        return Other(job, Kind.HELD, unique, jid, "Charge", failed=False)
    note, counter = b"disable_charge", "switched_off"
    return Other(job, Kind.OFF, unique, jid, job.queue, failed=False, counter=counter, note=note)


def noted(job: Fetched) -> Outcome:
    """Decide the same for a job of a reconciled class: some ends are noted."""
    outcome, payload = settled(job), Payload.decode(job.raw)
    number = payload.args[0]
    kind = NOTED.get(number, EndedKind.NO_PROGRESS if number == 8 else None)
    if kind is None:
        return outcome
    if isinstance(outcome, Done):
        outcome = Other(job, Kind.GONE, payload.unique, payload.jid, job.queue, failed=False)
    said = note(kind, "Row", digest(number).decode(), payload.args, jid=payload.jid)
    return replace(outcome, note=said)


def suspect(job: Fetched) -> tuple[recovery.Home, bytes]:
    """Say of each that two processes have died under it."""
    return recovery.Home.SUSPECTS, Payload.decode(job.raw).replace(deaths=2).encode()
