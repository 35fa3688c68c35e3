"""Cancelling one job by its id, wherever it is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from qik_core import options
from qik_core.api.acts import Act
from qik_core.api.holding import HeldList
from qik_core.api.record import JobRecord, Location, State
from qik_core.api.sets import JobSet, LaterSet, Queue, RetrySet, ScheduledSet, SuspectList
from qik_core.client import current as current_client
from qik_core.store import Store
from qik_core.store.records import Records

log: Final = logging.getLogger("qik_core.api")

_LOOKS: Final = 2  # a job may move back, from running to waiting, between two looks


class Cancelled(StrEnum):
    """What became of a job that somebody cancelled."""

    REMOVED = "removed"  # it was waiting; it is gone, and its lock is free
    ASKED = "asked"  # a process has it: it is not started, or asked to stop at its next checkpoint
    NOT_FOUND = "not_found"  # it had ended, is dead, or never was


def cancel(jid: str, store: Store | None = None) -> Cancelled:
    """Let a job neither start nor go on running.

    Its id is marked before it is looked for, so that a job which moves meanwhile cannot slip through. The mark stays for a
    day only where a process has the job, or had it when it was marked.

    Raises:
        ArgumentError: no id.
        StoreError: Redis did not answer; the mark may stand.
    """
    options.jid(jid, "cancel")
    store = store or current_client().store
    records = Records(store)
    was_held = _is_held(jid, records)  # it may see the mark and end before it is looked for
    records.cancel(jid, on=True)
    answer = Cancelled.NOT_FOUND
    for _ in range(_LOOKS):
        answer = _look(jid, store, records)
        if answer is not Cancelled.NOT_FOUND:
            break
    if answer is Cancelled.NOT_FOUND and was_held:
        answer = Cancelled.ASKED
    if answer is not Cancelled.ASKED:
        records.cancel(jid, on=False)
    log.info("a job was cancelled by hand", extra={"jid": jid, "result": answer.value})
    return answer


def waiting_places(store: Store) -> Iterator[JobSet]:
    """Yield every place in which jobs wait, sources before targets, so that a job which moves on is met."""
    yield ScheduledSet(store)
    yield from LaterSet.all(store)
    yield RetrySet(store)
    yield from HeldList.all(store)
    yield from SuspectList.all(store)
    yield from Queue.all(store)


def _look(jid: str, store: Store, records: Records) -> Cancelled:
    for place in waiting_places(store):
        job = place.find(jid)
        if job is not None and place.delete(job).act is Act.DONE:
            return Cancelled.REMOVED
    return Cancelled.ASKED if _is_held(jid, records) else Cancelled.NOT_FOUND


def _is_held(jid: str, records: Records) -> bool:
    return any(
        JobRecord.of(raw, Location(State.RUNNING, identity.encode())).jid == jid
        for identity, raw in records.held()
    )
