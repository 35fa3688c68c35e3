"""Unique jobs that arrive without a lock: pushed by a Ruby client, or promoted by a Ruby poller, which writes a job anew.

They get our header here, and `adopt.lua` takes their locks before a thread gets them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from qik_core.definition import Definition
from qik_core.errors import ArgumentError, MalformedPayload
from qik_core.options import is_jid
from qik_core.payload import Payload, new_jid
from qik_core.store.exchange import Answer, Fetched, Status
from qik_core.store.link import Arg, Link
from qik_core.store.store import Candidate
from qik_core.store.worker import Limits, WorkerStore

_OURS = b'{"qik":"'


class AdoptingStore(WorkerStore):
    """The scripts of one process, which hands out no unique job without its lock."""

    def __init__(
        self,
        identity: str,
        limits: Limits,
        candidate: Candidate,
        find: Callable[[str], Definition | None],
    ) -> None:
        super().__init__(identity, limits, candidate)
        self._find = find

    def exchange(self, link: Link, sequence: int, call: Sequence[Arg]) -> Answer:
        """Exchange, and adopt what came without a lock. If that fails, the re-sent exchange hands the same out again."""
        answer = super().exchange(link, sequence, call)
        wanted = [adopted(job, self._find) for job in foreign(answer.jobs)]
        found = {job.field: job for job in wanted if job is not None}
        if not found:
            return answer
        refused = self.adopt(link, list(found.values()))
        if refused is None:
            return replace(answer, status=Status.FENCED, jobs=())
        jobs = [found.get(job.field, job) for job in answer.jobs if job.field not in refused]
        return replace(answer, jobs=jobs, superseded=answer.superseded + len(refused))


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
