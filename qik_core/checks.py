"""Is this job's row still pending? Asked just before a job runs and when it has ended well, by many threads at once.

Group commit: one question of a class is under way at a time, and the next one asks for everything that came meanwhile, and
for the jobs of the class that wait in the pockets. Their answers are good for a second, and for the one run that they are
for. A database that hangs or is down stalls no worker: nobody waits much longer than a second, and where nothing could be
known nothing is asked for a while. Such jobs run, counted as `unchecked`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec

from qik_core import hooks, rows
from qik_core.definition import Definition
from qik_core.errors import ArgumentError, MalformedPayload
from qik_core.payload import Payload
from qik_core.rows import Asked, Rows, Standing
from qik_core.store.ended import EndedKind, note
from qik_core.store.exchange import Fetched

log: Final = logging.getLogger("qik_core.jobs")

MOST: Final = 250
"""Jobs that one question is about."""
FRESH: Final = 1.0
"""Seconds for which an answer is good."""
PATIENCE: Final = 1.0
"""Seconds that a thread waits for a question of another one."""
BLIND: Final = 1.0
"""Seconds without a question after one that was not answered; as long as that one took, where it took longer."""

QUIET: Final = 60.0
"""Seconds between two log lines about one class."""


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
        self._desks: dict[str, _Desk] = {}
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

    def after(self, seam: Rows, asked: Asked) -> Standing:
        """Say how the row of a job stands that has ended well; GONE where nobody expects to know."""
        if not _sure(seam.progress, asked.name):
            return Standing.GONE
        return self._desk(asked.name).ask(seam, asked)

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

    def _desk(self, name: str) -> _Desk:
        desk = self._desks.get(name)
        if desk is None:
            with self._lock:
                desk = self._desks.setdefault(name, _Desk(name, self._waiting, self._now))
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


@dataclass(slots=True, eq=False)
class _Question:
    asked: Asked
    answer: Standing | None = None


class _Desk:
    """Where the threads meet that ask for jobs of one class."""

    def __init__(
        self,
        name: str,
        waiting: Callable[[str, Callable[[bytes], bool]], Iterator[tuple[bytes, Asked]]],
        now: Callable[[], float],
    ) -> None:
        self._name = name
        self._ahead = waiting
        self._now = now
        self._turn = threading.Condition()
        self._questions: list[_Question] = []
        self._asking = False
        self._began = 0.0
        self._blind_until = 0.0
        self._quiet_until = 0.0
        self._known: dict[bytes, tuple[Standing, float]] = {}

    def recall(self, field: bytes) -> Standing | None:
        """Return what was asked in advance for this run; once, and not later than a second after."""
        said = self._known.pop(field, None)
        return said[0] if said is not None and self._now() - said[1] <= FRESH else None

    def ask(self, seam: Rows, asked: Asked) -> Standing:
        """Say how a row stands, as of after this call began."""
        mine = _Question(asked)
        with self._turn:
            if self._now() < self._blind_until:
                return Standing.UNKNOWN
            self._questions.append(mine)
            if not self._my_turn(mine):
                return mine.answer or Standing.UNKNOWN
            self._asking, self._began = True, self._now()
            self._questions.remove(mine)
            batch = [mine, *self._questions[: MOST - 1]]
            del self._questions[: MOST - 1]
        try:
            self._answer(seam, batch)
        finally:
            with self._turn:
                self._asking = False
                self._turn.notify_all()
        return mine.answer or Standing.UNKNOWN

    def _my_turn(self, mine: _Question) -> bool:
        """Wait until this thread may ask, for itself and those who wait; False: it was answered, or gave up."""
        while self._asking and mine.answer is None:
            left = self._began + PATIENCE - self._now()
            if left <= 0:
                break
            self._turn.wait(left)
        if mine.answer is None and not self._asking and self._now() >= self._blind_until:
            return True
        if mine in self._questions:
            self._questions.remove(mine)
        return False

    def _answer(self, seam: Rows, batch: Sequence[_Question]) -> None:
        began = self._now()
        ahead = self._fresh_ahead(MOST - len(batch))
        said = self._look(seam, [*(each.asked for each in batch), *ahead.values()])
        now = self._now()
        for question, answer in zip(batch, said, strict=False):
            question.answer = answer
        if Standing.UNKNOWN in said and (now - began > PATIENCE or set(said) == {Standing.UNKNOWN}):
            self._go_blind(now, now - began)
        known = zip(ahead, said[len(batch) :], strict=True)
        stamped = {
            field: (answer, began) for field, answer in known if answer is not Standing.UNKNOWN
        }
        self._known = {**self._still_known(now), **stamped}

    def _fresh_ahead(self, room: int) -> dict[bytes, Asked]:
        """Return the questions for jobs that wait, except for what is known."""
        now = self._now()

        def is_known(field: bytes) -> bool:
            known = self._known.get(field)
            return known is not None and now - known[1] <= FRESH / 2

        return dict(islice(self._ahead(self._name, is_known), room))

    def _still_known(self, now: float) -> dict[bytes, tuple[Standing, float]]:
        return {field: said for field, said in self._known.copy().items() if now - said[1] <= FRESH}

    def _look(self, seam: Rows, asked: Sequence[Asked]) -> Sequence[Standing]:
        try:
            said = seam.look(asked)
        except BaseException as error:  # noqa: BLE001 - told; a check must not end a job that it is not about
            hooks.defect("check of rows", error)
            return [Standing.UNKNOWN] * len(asked)
        if len(said) != len(asked):
            problem = f"{len(asked)} rows were asked for, {len(said)} answers came"
            hooks.defect("check of rows", ValueError(problem))
            return [Standing.UNKNOWN] * len(asked)
        return said

    def _go_blind(self, now: float, took: float) -> None:
        self._blind_until = now + max(BLIND, took)
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            log.warning(
                "the rows of jobs cannot be asked for: the jobs run unchecked",
                extra={"job": self._name},
            )
