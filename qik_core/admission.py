"""Which of the fetched jobs may start: not those whose key another run holds, nor those whose class is switched off."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from functools import partial

from qik_core import hooks, tallies
from qik_core.capsule import Capsules
from qik_core.ends import unique_of
from qik_core.gate import Gate
from qik_core.store.exchange import Fetched, Kind, Other
from qik_core.store.link import Link
from qik_core.store.worker import WorkerStore


class Admission:
    """What one courier lets its threads have. `lock` is the courier's, which guards what it holds."""

    def __init__(self, capsules: Capsules, lock: threading.Lock) -> None:
        self._capsules = capsules
        self._lock = lock
        self.superseded: set[bytes] = set()
        """Fields of jobs whose key another run holds."""
        self.gate: Gate | None = None
        """The kill switches; None: there are none."""

    def startable(self, jobs: Sequence[Fetched]) -> Sequence[Fetched]:
        """Return the jobs that may start; the others are over, in their order. Under the lock."""
        shut = self.gate is not None and self.gate.shut
        if not self.superseded and not shut:
            return jobs
        free: list[Fetched] = []
        for job in jobs:
            ended = self._over(job, shut=shut)
            if ended is None:
                free.append(job)
            else:
                self._capsules.done.append(ended)
                # Of a superseded one nothing is counted: it ends where its key is held.
                if tallies.current is not None and ended.kind is not Kind.GONE:
                    tallies.current.ended(ended)
        return free

    def supersede(self, fields: Collection[bytes]) -> None:
        """Another run holds the keys of these jobs: do not start them, stop them at their next checkpoint."""
        with self._lock:
            self.superseded.update(fields)
            self._capsules.sort(self.startable)
        self._capsules.cancel(fields)

    def look(self, store: WorkerStore, link: Link) -> None:
        """Look at the switches once in a while, and obey them. Raises StoreUnavailable.

        What is switched off leaves the pockets before more of it is fetched: so it is held in its order.
        """
        if self.gate is None or not self.gate.board.look(partial(store.switches, link)):
            return
        if self.gate.shut:
            with self._lock:
                self._capsules.sort(self.startable)
            self._capsules.cancel(self.gate.cancelled(self._capsules.running()))

    def _over(self, job: Fetched, *, shut: bool) -> Other | None:
        """Return what becomes of a job that may not start. Never raises: the others would stay with nobody.

        Where the switches meet a defect the job goes on to its thread, which asks them again before it runs anything, and
        sets aside in the dead set what they still cannot judge: it is neither lost nor run.
        """
        if job.field in self.superseded:
            unique, jid = unique_of(job)
            return Other(job, Kind.GONE, unique, jid, job.queue, failed=False)
        try:
            return self.gate.over(job) if shut and self.gate is not None else None
        except Exception as error:  # noqa: BLE001 - told, and it goes on
            hooks.defect("kill switches", error)
            return None
