"""Which of the fetched jobs may start: not those whose key another run holds, nor those whose class is switched off."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qik_core.ends import unique_of
from qik_core.gate import Gate
from qik_core.store.exchange import Fetched, Kind, Other
from qik_core.store.link import Link
from qik_core.store.worker import WorkerStore


class Admission:
    """What one courier lets its threads have. Not for two threads at once, but for `superseded`, under the courier's lock."""

    def __init__(self) -> None:
        self.superseded: set[bytes] = set()
        """Fields of jobs whose key another run holds."""
        self.gate: Gate | None = None
        """The kill switches; None: there are none."""

    def look(
        self, store: WorkerStore, link: Link, running: Callable[[], Sequence[Fetched]]
    ) -> Sequence[bytes]:
        """Look at the switches once in a while; returns the fields of runs that are asked to stop. Raises StoreUnavailable."""
        if self.gate is None:
            return ()
        if not self.gate.board.look(lambda version, counts: store.switches(link, version, counts)):
            return ()
        return self.gate.cancelled(running())

    def sort(self, jobs: Sequence[Fetched]) -> tuple[Sequence[Fetched], Sequence[Other]]:
        """Return the jobs that may start, and the outcomes of the others."""
        shut = self.gate is not None and self.gate.shut
        if not self.superseded and not shut:
            return jobs, ()
        free: list[Fetched] = []
        over: list[Other] = []
        for job in jobs:
            ended = self._over(job, shut=shut)
            if ended is None:
                free.append(job)
            else:
                over.append(ended)
        return free, over

    def _over(self, job: Fetched, *, shut: bool) -> Other | None:
        if job.field in self.superseded:
            unique, jid = unique_of(job)
            return Other(job, Kind.GONE, unique, jid, job.queue, failed=False)
        return self.gate.over(job) if shut and self.gate is not None else None
