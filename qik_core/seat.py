"""What a parent supervises: seats, the children on them, and the way home of an ended child's jobs.

Standard library only: the parent loads this file without the package.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from typing import Any, Final, Protocol

from qik_core.notice import log
from qik_core.shared import Shared, State

YOUNG: Final = 30.0  # seconds; a child that lived less died young
LONGEST_PAUSE: Final = 30.0
HELPER_LIMIT: Final = 10.0
RECOVERY_LIMIT: Final = 600.0  # after this long others have found the lost host


class Onlooker(Protocol):
    """Who tells others how the children fare: `probes.gather`, loaded only if a port is named."""

    def join(self, seat: int) -> int:
        """A child is about to be spawned: return a descriptor for it, to be closed here afterwards."""

    def leave(self, seat: int, *, clean: bool) -> None:
        """The child has ended."""

    def saw(self, now: float, states: Mapping[int, State | None]) -> None:
        """The parent has looked at every seat."""


def onlooker(settings: Mapping[str, Any], every: float) -> Onlooker | None:
    """Open the port for metrics and probes, if these settings name one: otherwise not even a socket is imported."""
    host, port = settings.get("metrics_host"), settings.get("metrics_port")
    if not host or not port:
        return None
    from qik_core.probes.gather import Probes

    probes = Probes((host, port), log, every)
    probes.listener.start()
    return probes


class Child:
    """One worker process and what its parent has observed of it. All times are seconds of `clock()`."""

    def __init__(self, process: subprocess.Popen[bytes], shared: Shared, born: float) -> None:
        self.process = process
        self.shared = shared
        self.born = born
        self.heard = born
        self.stop_by: float | None = None
        self.overdue = False
        self.too_big = False
        self.ending = False
        self.quieted = False
        self._tick = 0.0

    @property
    def pid(self) -> int:
        """Its process id, which is also its process group's."""
        return self.process.pid

    @property
    def booted(self) -> bool:
        """It has its signal handlers, and has been able to work."""
        return self.shared.state is not State.BOOTING

    @property
    def left_cleanly(self) -> bool:
        """No job is to blame for its end: it stopped by itself, or had not begun, or outlived its time to stop.

        What still runs in one that was asked to stop for its size may have made it so big.
        """
        code = self.process.returncode
        if self.too_big and self.shared.started():
            return False
        if code == -signal.SIGTERM and self.stop_by is not None and not self.booted:
            return True
        return self.overdue or (code == 0 and self.shared.state is State.STOPPING)

    def silent_for(self, now: float) -> float:
        """Return for how long the parent has seen its tick stand still."""
        tick = self.shared.last_tick()
        if tick != self._tick:
            self._tick, self.heard = tick, now
        return now - self.heard

    def stop(self, by: float) -> None:
        """Ask it to stop; `by` is when it gets SIGKILL. Asked again, a child stops at once."""
        self.stop_by = by if self.stop_by is None else min(self.stop_by, by)
        self.process.send_signal(signal.SIGTERM)

    def quiet(self) -> None:
        """Ask it once to fetch no more. Before it has its handlers, this signal would freeze it."""
        if self.booted and not self.quieted:
            self.quieted = True
            self.process.send_signal(signal.SIGTSTP)

    def dump(self) -> None:
        """Ask it to write down the stacks of its threads."""
        if self.booted:
            self.process.send_signal(signal.SIGTTIN)

    def sigkill(self) -> None:
        """End it and what its jobs have spawned: that must not go on while the jobs run elsewhere."""
        self.ending = True
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (
            ProcessLookupError,
            PermissionError,
        ):  # between its spawn and its setsid there is no such group
            self.process.kill()

    def resident_mb(self) -> float:
        """Return its resident memory, MB; 0 where the system does not tell."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:  # noqa: PTH123  pathlib weighs 1 MB
                return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
        except (OSError, IndexError):
            return 0.0


class Seat:
    """A place for one child after another. It remembers how the last ones fared."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.child: Child | None = None
        self.used = False
        self.due = 0.0
        self._young_deaths = 0

    def vacate(self, now: float, lived: float, *, innocent: bool) -> float:
        """Empty the seat; return the pause before the next child: 0, 1, 2, 4 … 30 s while they die young."""
        self.child = None
        self._young_deaths = self._young_deaths + 1 if lived < YOUNG and not innocent else 0
        pause = (
            min(LONGEST_PAUSE, 2.0 ** (self._young_deaths - 2)) if self._young_deaths > 1 else 0.0
        )
        self.due = now + pause
        return pause


class Recovery:
    """The return of one ended child's jobs by a helper process, tried again until it succeeds."""

    def __init__(self, arguments: list[str], identity: str, now: float) -> None:
        self.identity = identity
        self.due = now
        self.give_up = now + RECOVERY_LIMIT
        self.tries = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._arguments = arguments
        self._deadline = 0.0

    def begin(self, environment: dict[str, str], now: float) -> None:
        """Start the helper.

        Raises:
            OSError: the system has no process for it
        """
        self.tries += 1
        self._deadline = now + HELPER_LIMIT
        self.process = subprocess.Popen(  # noqa: S603  the argv of our own specification
            self._arguments, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def exit_code(self, now: float) -> int | None:
        """Return how the helper ended, None while it works. Beyond its deadline it gets SIGKILL."""
        if self.process is None:
            return None
        if now > self._deadline:
            self.process.kill()
        return self.process.poll()

    def postpone(self, now: float, longest: float) -> None:
        """Try again a while later."""
        self.process = None
        self.due = now + min(longest, 0.5 * 2.0 ** (self.tries - 1))

    def abandon(self) -> None:
        """End the helper if it works. What it has begun, any other process finishes."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
