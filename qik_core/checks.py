"""Is this job's row still pending? Asked just before a job runs and when it has ended well, by many threads at once.

Group commit (desk.py): one question of a class is under way at a time, and the next one asks for everything that came meanwhile,
and for the jobs of the class that wait in the pockets. Their answers are good for a second, and for the one run that they are
for. A database that hangs or is down stalls no worker: nobody waits much longer than a second, and where nothing could be
known nothing is asked for a while. Such jobs run, counted as `unchecked`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from qik_core import hooks, rows
from qik_core.definition import Definition
from qik_core.desk import Deliver, Desk
from qik_core.errors import ArgumentError, MalformedPayload
from qik_core.payload import Payload
from qik_core.rows import Asked, Rows, Standing
from qik_core.store.ended import EndedKind, note
from qik_core.store.exchange import Fetched


class Checks:
    """The questions of one process. Safe to use from many threads.

    `find` returns the definition of a job class, `seam` what knows the rows; `now` is monotonic.
    """

    def __init__(
        self,
        find: Callable[[str], Definition | None],
        seam: Callable[[], Rows | None] = rows.known,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ahead: Callable[[], Iterable[Fetched]] = tuple
        """Returns the jobs that wait in the pockets of this process."""
        self._find = find
        self._seam = seam
        self._now = now
        self._desks: dict[str, Desk] = {}
        self._lock = threading.Lock()
        self._unchecked = 0

    def seam_of(self, name: str) -> Rows | None:
        """Return what knows the rows of a job class; None where no reconciler tells it."""
        seam = self._seam()
        return seam if seam is not None and _sure(seam.reconciled, name) else None

    def before(self, seam: Rows, asked: Asked, field: bytes) -> Standing:
        """Say how the row of a job stands that is about to run; `field` is its place in the working hash."""
        wanted = _sure(seam.checked, asked.name)
        if wanted is False:
            return Standing.PENDING
        desk = self._desk(asked.name)
        said = Standing.UNKNOWN if wanted is None else desk.recall(field) or desk.ask(seam, asked)
        if said is Standing.UNKNOWN:
            with self._lock:
                self._unchecked += 1
        return said

    def expects(self, seam: Rows, name: str) -> bool:
        """Whether a job of this class that ended well is asked about."""
        return bool(_sure(seam.progress, name))

    def after(self, seam: Rows, asked: Asked) -> Standing:
        """Say how the row of a job stands that has ended well."""
        return self._desk(asked.name).ask(seam, asked)

    def afterwards(self, seam: Rows, asked: Asked, deliver: Deliver) -> None:
        """Say the same to `deliver`, from another thread, some milliseconds later: many such go together."""
        self._desk(asked.name).leave(seam, asked, deliver)

    def close(self) -> None:
        """End the threads of this, behind what was left to them."""
        for desk in tuple(self._desks.values()):
            desk.close()

    def note(self, kind: EndedKind, payload: Payload, error: str = "") -> bytes:
        """Return what the reconciler is told of a job that has ended; empty where no reconciler tells its class."""
        definition, unique = self._find(payload.class_name), payload.unique
        name = definition.name if definition else payload.class_name
        if self.seam_of(name) is None:
            return b""
        digest = unique.digest if unique else ""
        return note(kind, name, digest, payload.args, jid=payload.jid, error=error)

    def take_unchecked(self) -> int:
        """Return how many jobs ran unchecked since the last call."""
        with self._lock:
            count, self._unchecked = self._unchecked, 0
        return count

    def _desk(self, name: str) -> Desk:
        desk = self._desks.get(name)
        if desk is None:
            with self._lock:
                desk = self._desks.setdefault(name, Desk(name, self._waiting, self._now))
        return desk

    def _waiting(self, name: str, skip: Callable[[bytes], bool]) -> Iterator[tuple[bytes, Asked]]:
        """Yield the jobs of a class that wait in the pockets, but for those to be skipped, by their places."""
        definition = self._find(name)
        mark = b'"class":' + msgspec.json.encode(name)
        for job in self.ahead() if definition is not None else ():
            if mark in job.raw and not skip(job.field):
                asked = asked_of(definition, job.raw)
                if asked is not None:
                    yield job.field, asked


def _sure(ask: Callable[[str], bool], name: str) -> bool | None:
    """Return what is answered from memory; None where that broke, which must not end a job."""
    try:
        return ask(name)
    except BaseException as error:  # noqa: BLE001 - told
        hooks.defect("check of rows", error)
        return None


def asked_of(definition: Definition | None, raw: bytes) -> Asked | None:
    """Return the question for a payload; None for what will not run as it is."""
    try:
        payload = Payload.decode(raw)
        if definition is None or payload.class_name != definition.name:
            return None
        return ask_for(definition, payload, definition.arguments.load(payload.args))
    except (MalformedPayload, ArgumentError):
        return None


def ask_for(definition: Definition, payload: Payload, args: Sequence[object]) -> Asked:
    """Return the question for a job with these arguments, as `perform` takes them."""
    unique = payload.unique
    return Asked(definition.name, tuple(args), unique.digest if unique else "")
