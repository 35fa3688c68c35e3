"""A mode: where pushes go while a test runs. One at a time, for the whole process and all its threads.

The whole process, because pushes come from threads that a test does not know: a web framework's test client, the threads of
`.aio`. Tests in parallel have a process each (pytest-xdist).
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, Self

from qik_core import client
from qik_core.settings import Settings
from qik_core.store import Store
from qik_core.testing.errors import MisusedMode
from qik_core.testing.running import EnqueuedJob, Loop

_USES: Final = "with fake() as jobs: …, or the fixture qik_fake; likewise inline, real"
_NEW: Final = "has not begun: use it in a with statement"
_lock = threading.Lock()
_active: Mode | None = None


class Mode(ABC):
    """What `fake()`, `inline()` and `real()` have in common. Entered once, with `with`."""

    name: str
    """How errors call it."""

    def __init__(self) -> None:
        self._entered = ExitStack()
        self._loop = Loop()
        self._state = _NEW

    @property
    @abstractmethod
    def jobs(self) -> list[EnqueuedJob]:
        """The jobs that wait: those on queues, then scheduled ones; for `inline()`, those that ran."""

    @abstractmethod
    def drain(self, job: object = None) -> int:
        """Perform jobs until none is left, and return how many."""

    @abstractmethod
    def _open(self, settings: Settings) -> Store:
        """Return where pushes go."""

    def jobs_of(self, job: object) -> list[EnqueuedJob]:
        """Return those of one class: a Job class, a function with @job, or a name."""
        name = name_of(job)
        return [each for each in self.jobs if each.name == name]

    def queued(self, queue: str) -> list[EnqueuedJob]:
        """Return those on one queue, next to be performed first; scheduled ones are not on a queue yet."""
        return [each for each in self.jobs if each.queue == queue and each.at is None]

    @property
    def scheduled(self) -> list[EnqueuedJob]:
        """Those that wait for their time, next to be due first."""
        return [each for each in self.jobs if each.at is not None]

    def __enter__(self) -> Self:
        global _active
        with _lock:
            if _active is not None:
                raise MisusedMode(
                    f"{self.name} inside {_active.name}: one mode at a time; leave that one first, or use one fixture"
                )
            if self._state != _NEW:
                raise MisusedMode(f"this {self.name} was used already: make another one")
            with self._entered as begun:  # what has begun ends again if the rest cannot begin
                self._start(begun)
                begun.enter_context(client.opening(self._open))
                self._entered = begun.pop_all()
            self._state, _active = "", self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _active  # noqa: PLW0603 - one for the process, so that every push meets it
        with _lock:
            _active = None
            self._state = "has ended: nothing is performed any more"
            with self._entered:
                self._loop.close()

    def _start(self, begun: ExitStack) -> None:  # noqa: B027 - most modes need nothing
        """Make what the mode needs; `begun` is told how to end it."""

    def _usable(self, what: str) -> None:
        if self._state:
            raise MisusedMode(f"{what}: this {self.name} {self._state}")


def active() -> Mode:
    """Return the mode of this process.

    Raises:
        MisusedMode: there is none.
    """
    if _active is None:
        raise MisusedMode(f"no testing mode is on, so pushes go to Redis: use {_USES}")
    return _active


def is_active() -> bool:
    """Whether a mode is on."""
    return _active is not None


def name_of(job: object) -> str:
    """Return the registered name of a job: a Job class, a function with @job, or a name.

    Raises:
        DefinitionError: something else.
    """
    return client.definition_of(job).name


def listed(jobs: Iterable[Any], most: int = 20) -> str:
    """Return one line per job for an error, at most `most`; says so when there are none."""
    lines = [f"  {each}" for each in jobs]
    if len(lines) > most:
        lines = [*lines[:most], f"  and {len(lines) - most:,} more"]
    return "\n".join(lines) or "  nothing"
