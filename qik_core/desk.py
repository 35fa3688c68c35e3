"""Where the threads of a process meet that ask for rows of one job class.

One question is under way at a time, and the next one is about everything that came meanwhile. A thread that needs its answer
waits for it, but not for long; what only has to be known some time is left here, and a thread of the desk sees to it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from qik_core import hooks
from qik_core.rows import Asked, Rows, Standing

log: Final = logging.getLogger("qik_core.jobs")

MOST: Final = 250
"""Jobs that one question is about."""
FRESH: Final = 1.0
"""Seconds for which an answer is good."""
PATIENCE: Final = 1.0
"""Seconds that a thread waits for a question of another one."""
BLIND: Final = 1.0
"""Seconds without a question after one that was not answered; as long as that one took, where it took longer."""
LINGER: Final = 0.02
"""Seconds between two questions about what was left at a desk."""
QUIET: Final = 60.0
"""Seconds between two log lines about one class."""

Ahead = Callable[[str, Callable[[bytes], bool]], Iterator[tuple[bytes, Asked]]]
Deliver = Callable[[Standing], object]


@dataclass(slots=True, eq=False)
class _Question:
    asked: Asked
    deliver: Deliver | None = None
    """Told the answer; None where a thread waits for it."""
    answer: Standing | None = None


class Desk:
    """The questions about one job class. Safe to use from many threads.

    `ahead` yields jobs of a class that wait to run, but for those to be skipped, by their places; `now` is monotonic.
    """

    def __init__(self, name: str, ahead: Ahead, now: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._ahead = ahead
        self._now = now
        self._turn = threading.Condition()
        self._questions: list[_Question] = []
        self._asking = False
        self._began = 0.0
        self._blind_until = 0.0
        self._quiet_until = 0.0
        self._known: dict[bytes, tuple[Standing, float]] = {}
        self._left: threading.Thread | None = None
        self._stopped = False

    @property
    def waiting(self) -> int:
        """How many questions have not been taken up."""
        return len(self._questions)

    @property
    def known(self) -> int:
        """How many answers are kept for runs that have not begun."""
        return len(self._known)

    def recall(self, field: bytes) -> Standing | None:
        """Return what was asked in advance for the job at this place; once, and not later than a second after."""
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
            batch = self._take(mine)
        self._lead(seam, batch)
        return mine.answer or Standing.UNKNOWN

    def leave(self, seam: Rows, asked: Asked, deliver: Deliver) -> None:
        """Let `deliver` be told how a row stands, as of after this call began; at once where nothing can be known."""
        with self._turn:
            if self._now() < self._blind_until or self._is_stuck():
                unanswered = self._give_up()
            else:
                unanswered = []
                self._questions.append(_Question(asked, deliver))
                if self._left is None:
                    self._see_to(seam)
                self._turn.notify_all()
                return
        for each in [*unanswered, deliver]:
            each(Standing.UNKNOWN)

    def close(self) -> None:
        """End the thread of this desk, behind what was left here."""
        with self._turn:
            self._stopped = True
            self._turn.notify_all()

    # --- the turn ------------------------------------------------------------------

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

    def _take(self, mine: _Question | None = None) -> list[_Question]:
        self._asking, self._began = True, self._now()
        first = [] if mine is None else [mine]
        if mine is not None:
            self._questions.remove(mine)
        room = MOST - len(first)
        batch = [*first, *self._questions[:room]]
        del self._questions[:room]
        return batch

    def _lead(self, seam: Rows, batch: Sequence[_Question]) -> None:
        try:
            self._answer(seam, batch)
        finally:
            with self._turn:
                self._asking = False
                self._turn.notify_all()
        for question in batch:
            if question.deliver is not None:
                question.deliver(question.answer or Standing.UNKNOWN)

    # --- what was left --------------------------------------------------------------

    def _is_stuck(self) -> bool:
        return self._asking and self._now() - self._began > PATIENCE

    def _give_up(self) -> list[Deliver]:
        """Take back what was left, and return who is to be told that nothing is known."""
        left = [each.deliver for each in self._questions if each.deliver is not None]
        self._questions = [each for each in self._questions if each.deliver is None]
        return left

    def _see_to(self, seam: Rows) -> None:
        self._left = threading.Thread(
            target=self._work, args=(seam,), name=f"rows-{self._name}", daemon=True
        )
        self._left.start()

    def _work(self, seam: Rows) -> None:
        while True:
            with self._turn:
                while self._asking or not self._questions:
                    if self._stopped and not self._questions:
                        return
                    self._turn.wait()
                unanswered = self._give_up() if self._now() < self._blind_until else []
                batch = [] if unanswered else self._take()
            for deliver in unanswered:
                deliver(Standing.UNKNOWN)
            if batch:
                self._lead(seam, batch)
            time.sleep(LINGER)

    # --- one question ----------------------------------------------------------------

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
        stamped = {at: (answer, began) for at, answer in known if answer is not Standing.UNKNOWN}
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
        except BaseException as error:  # noqa: BLE001 - told; a question must not end a job
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
