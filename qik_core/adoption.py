"""Unique jobs that arrive without a lock: pushed by a Ruby client, or promoted by a Ruby poller, which writes a job anew.

They get our header here, and `adopt.lua` takes their locks before a thread gets them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from qik_core.definition import Definition
from qik_core.errors import ArgumentError, MalformedPayload
from qik_core.options import is_jid
from qik_core.payload import Payload, new_jid
from qik_core.store.exchange import Fetched

_OURS = b'{"qik":"'


def foreign(jobs: Iterable[Fetched]) -> list[Fetched]:
    """Return the jobs that do not begin with our header."""
    return [job for job in jobs if not job.raw.startswith(_OURS)]


def adopted(job: Fetched, find: Callable[[str], Definition | None]) -> Fetched | None:
    """Return a foreign job with our header and its lock in it; None for one that needs no lock, or is no job."""
    try:
        payload = Payload.decode(job.raw)
        mark = _mark(payload, find)
    except (MalformedPayload, ArgumentError):
        return None  # the run says what is wrong with it
    if mark is None:
        return None
    jid = payload.jid if is_jid(payload.jid) else new_jid()
    return job._replace(raw=payload.replace(qik=mark, jid=jid, queue=job.queue).encode())


def _mark(payload: Payload, find: Callable[[str], Definition | None]) -> str | None:
    if payload.unique is not None:
        return str(payload.unique)
    definition = find(payload.class_name)
    if definition is None or definition.unique is None:
        return None
    return (definition.digest(payload.args) + definition.unique.mark).decode()
