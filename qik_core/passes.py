"""The seam for `reconciler`: which keys are told, push as a pass, look at the epoch, audit, roll.

A pass is one of the two origins of a push. It neither advances a scheduled duplicate nor marks a running one dirty,
because it always sees the row of a long job as still pending; and it never adds a second copy, however long the backlog.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from qik_core.definition import Definition
from qik_core.jobs import Job
from qik_core.results import Code
from qik_core.settings import Wire, current
from qik_core.store import MOST, Chunk, Epoch, Origin, Store, rolls

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What a push of a pass answered."""

    codes: list[Code]
    """One per row, in order."""
    epoch: Epoch


class Passes:
    """Redis, as a pass sees it. Safe to use from many threads.

    All methods raise StoreError: Redis did not answer, or refused.
    """

    def __init__(self, store: Store | None = None) -> None:
        if store is None:
            settings = current()
            store = Store(settings.redis, milliseconds=settings.wire is Wire.SIDEKIQ8)
        self._store = store
        self._walker = f"pass:{os.getpid()}:{os.urandom(4).hex()}"

    def look(self) -> Epoch:
        """Return the epoch; its loss id changes when Redis has lost its data."""
        return self._store.look()

    def digests(self, job: type[Job], rows: Sequence[Row]) -> list[bytes]:
        """Return the keys of these rows' jobs: 22 characters each.

        Raises:
            RowError: a row does not fit `perform`.
        """
        return _definition(job).digests(rows)

    def told(self, digests: Sequence[bytes], versions: Sequence[str] | None = None) -> list[bool]:
        """Say for each key whether a job exists; a running job of an older row version does not count."""
        return self._store.told(digests, _encoded(versions))[0]

    def push(
        self,
        job: type[Job],
        rows: Sequence[Row],
        *,
        delays: Sequence[float] | None = None,
        versions: Sequence[str] | None = None,
        queue: str | None = None,
    ) -> Told:
        """Tell these rows; `delays` in seconds, `versions` of 6 characters. Whole chunks of 500 are written or not.

        Raises:
            RowError: a row does not fit `perform`; nothing was written.
        """
        definition = _definition(job)
        if queue is not None:
            definition = definition.with_options({"queue": queue}, definition.name)
        codes: list[Code] = []
        epoch = None
        tags = _encoded(versions)
        for start in range(0, len(rows), MOST):
            part = slice(start, start + MOST)
            late = delays[part] if delays is not None else None
            pushed = self._store.push(
                self._chunk(definition, rows[part], late, tags[part] if tags else None)
            )
            codes += pushed.codes
            epoch = pushed.epoch
        return Told(codes, epoch or self.look())

    def audit(self, queues: Iterable[str]) -> bool:
        """Whether somebody deleted jobs of ours from these queues: their locks must be found by a roll."""
        return self._store.audit(queues) > 0

    def roll(self, deadline: float) -> bool:
        """Collect the locks behind which no job stands; True when that ended by `deadline` (monotonic seconds)."""
        links = self._store.links
        link = links.borrow()
        try:
            return (
                rolls.roll(link, self._store.candidate, self._walker, deadline=deadline) is not None
            )
        finally:
            links.give(link)

    def _chunk(
        self,
        definition: Definition,
        rows: Sequence[Row],
        delays: Sequence[float] | None,
        tags: Sequence[bytes] | None,
    ) -> Chunk:
        now = time.time()
        due = None if delays is None else [now + delay for delay in delays]
        built = definition.build(rows, now, due=due, milliseconds=self._store.milliseconds)
        return Chunk(
            queue=definition.queue,
            jids=built.jids,
            payloads=built.payloads,
            digests=built.digests,
            seconds=definition.unique.seconds if definition.unique else 0,
            until=definition.unique.until if definition.unique else "success",
            origin=Origin.PASS,
            delays=delays,
            versions=tags,
        )


def _definition(job: type[Job]) -> Definition:
    definition: Definition = job.definition
    return definition


def _encoded(versions: Sequence[str] | None) -> list[bytes] | None:
    return None if versions is None else [version.encode() for version in versions]
