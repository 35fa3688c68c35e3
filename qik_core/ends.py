"""What becomes of a fetched job, as an exchange settles it. Pure but for the log.

A note tells the reconciler of an end that leaves a row pending; the script writes it only if the job has really ended.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final, assert_never

from qik_core import retry
from qik_core.errors import MalformedPayload
from qik_core.payload import Payload, Unique, new_jid
from qik_core.store.ended import EndedKind
from qik_core.store.exchange import Done, Fetched, Kind, Other, Outcome
from qik_core.store.keys import is_queue

log: Final = logging.getLogger("qik_core.jobs")


def done(job: Fetched, payload: Payload) -> Done:
    """Return the end of a job that ended well."""
    if "retry_count" in payload.fields or retry.DEATHS in payload.fields:
        return Done(job, retry.fresh(Payload.decode(job.raw)).encode())
    return Done(job)


def gone(job: Fetched, payload: Payload, counter: str, *, level: int = logging.WARNING) -> Other:
    """Return the end of a job that was not, or not fully, performed and is not wanted any more."""
    fields = {"jid": payload.jid, "job": payload.class_name, "queue": job.queue}
    log.log(level, "job %s", counter, extra=fields)
    return _over(job, payload, counter=counter)


def idle(outcome: Outcome, payload: Payload, note: bytes) -> Other:
    """Return the end of a job that ended well and left its row pending; `payload` as it was fetched."""
    job = outcome.job
    fields = {"jid": payload.jid, "job": payload.class_name, "queue": job.queue}
    log.warning(
        "job ended well and its row is still pending: it did nothing for it, or the row changed meanwhile",
        extra=fields,
    )
    return replace(outcome, note=note) if type(outcome) is Other else _over(job, payload, note=note)


def other(
    job: Fetched,
    before: Payload,
    after: Payload,
    decision: retry.Decision,
    counter: str = "",
    note: bytes = b"",
) -> Other:
    """Return what becomes of a job that failed: `after` is how it stands in the retry or dead set."""
    if not after.jid:
        after = after.replace(jid=new_jid())
    if not is_queue(after.get("queue")):
        after = after.replace(queue=job.queue)
    unique, again, raw = before.unique, retry.fresh(before).encode(), after.encode()
    kind, delay, payload = Kind.DEAD, 0.0, raw
    match decision:
        case retry.Again(delay):
            kind = Kind.RETRY
        case retry.Bury():
            pass
        case retry.Drop(why):
            kind, payload, counter = Kind.GONE, b"", counter or why
        case _:
            assert_never(decision)
    return Other(
        job,
        kind,
        unique,
        after.jid,
        job.queue,
        payload,
        delay,
        again,
        counter=counter,
        note=b"" if kind is Kind.RETRY else note,
    )


def ended_kind(decision: retry.Bury | retry.Drop) -> EndedKind:
    """Return how the reconciler calls this end of a job that failed."""
    return EndedKind.TERMINAL if decision.terminal else EndedKind.DIED


def ended_well(outcome: Outcome) -> bool:
    """Whether a job ended, and did not fail."""
    return type(outcome) is Done or (type(outcome) is Other and outcome.counter == "discarded")


def said(outcome: Outcome | None) -> str:
    """Return how a run ended, in a word; None is one that ended well, whose row is looked at later."""
    return (outcome.counter or outcome.kind.name.lower()) if type(outcome) is Other else "done"


def _over(job: Fetched, payload: Payload, *, counter: str = "", note: bytes = b"") -> Other:
    return Other(
        job,
        Kind.GONE,
        payload.unique,
        payload.jid,
        job.queue,
        again=retry.fresh(payload).encode(),
        failed=False,
        counter=counter,
        note=note,
    )


def unique_of(job: Fetched) -> tuple[Unique | None, str]:
    """Return the lock and the jid of a fetched job; nothing for one that cannot be read."""
    try:
        payload = Payload.decode(job.raw)
    except MalformedPayload:
        return None, ""
    return payload.unique, payload.jid
