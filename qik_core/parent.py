"""The supervisor of worker processes: it can judge a child because it is none, and outlives it because it imports nothing.

The life of a parent:

1. The command line replaces itself by this file, run by path, with a specification in the environment.
2. It spawns children (never forks: they inherit nothing but a page of memory and the read end of a pipe).
3. It watches. A child whose tick stands still for a lease less two heartbeats gets SIGKILL, since nothing else helps
   against a job that holds the GIL. One that outgrows its memory limit is asked to stop.
4. When a child has ended, whatever the reason, a helper returns its jobs at once and another child takes its seat,
   with a growing pause when children die young.
5. TERM or INT: every child is asked to stop, and gets SIGKILL when it outlives its time. A second one cuts that time.
6. Should the parent itself die, the pipe ends, and the children stop by themselves.

Standard library only, and little of it: a parent weighs less than 14 MB (docs/decisions/0030).
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from types import FrameType, ModuleType
from typing import Any, Final, NamedTuple

if __name__ == "__main__":
    # Run by path: an empty package stands in, so that of ours nothing is imported but the siblings.
    _package = ModuleType("qik_core")
    _package.__path__ = [os.path.dirname(os.path.abspath(__file__))]  # noqa: PTH100, PTH120  pathlib weighs 1 MB
    sys.modules["qik_core"] = _package

from qik_core.notice import Notify, in_words, log, write_as
from qik_core.seat import Child, Recovery, Seat, onlooker
from qik_core.shared import Shared, clock

SPEC_VARIABLE: Final = (
    "QIK_PARENT"  # not on the command line: everybody can read that, and settings hold passwords
)
CHILD_VARIABLE: Final = "QIK_CHILD"
GRACE: Final = 3.0  # seconds that a child may take beyond the shutdown time before SIGKILL
LAST_WORK: Final = 1.5  # seconds for helpers after that; together under the 5 s that are promised
BOOT_LIMIT: Final = 60.0  # seconds without a tick while a child imports the application
BOOT_FAILURES: Final = 5  # so many in a row without any success: waiting does not help
FAR_TOO_BIG: Final = 1.5  # times the memory that a child may have: it is not given time to stop
HELPERS_AT_ONCE: Final = 4
_STOP: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SERVICE_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", SPEC_VARIABLE)


class Spec(NamedTuple):
    """What a parent must know. Times are seconds."""

    processes: int
    slots: int
    """How many jobs a child runs at most at once."""
    child: list[str]
    recover: list[str]
    heartbeat: float
    lease: float
    shutdown: float
    settings: dict[str, Any]
    """Handed to children and helpers as they are."""
    environment: dict[str, str] = {}  # noqa: RUF012  never written to
    memory_mb: int | None = None


class Parent:
    """The loop that holds the seats."""

    def __init__(self, spec: Spec, environment: dict[str, str]) -> None:
        self.spec = spec
        self.notify = Notify(environment)
        self.seats = [Seat(index) for index in range(spec.processes)]
        self.recoveries: list[Recovery] = []
        self.onlooker = onlooker(spec.settings, spec.heartbeat)
        self.exit_code = 0
        inherited = {
            name: value for name, value in environment.items() if name not in _SERVICE_VARIABLES
        }
        self._environment = {**inherited, **spec.environment}
        self._life, self._hold = os.pipe()  # nobody writes: it ends when this process does
        self._signals: list[int] = []
        self._stopped_by: float | None = None
        self._quiet = False
        self._ever_booted = False
        self._announced = False
        self._boot_failures = 0
        self._last_replacement = float("-inf")
        self._looked = clock()

    def run(self) -> int:
        """Supervise until asked to stop; return the exit code: 0, or 1 if no worker could start."""
        wake = self._install_signals()
        interval = min(0.5, self.spec.heartbeat / 5, self.notify.every or 0.5)
        log("INFO", "starts", processes=self.spec.processes, jobs_each=self.spec.slots)
        self._looked = clock()
        while not self._finished(clock()):
            self.turn(clock())
            if select.select([wake], [], [], interval)[0]:
                os.read(wake, 4096)
        self._leave_recoveries()
        log("INFO", "has stopped", exit_code=self.exit_code)
        return self.exit_code

    def turn(self, now: float) -> None:
        """Look at everything once; `now` is seconds of `clock()`."""
        self._obey(now)
        self._reap(now)
        self._watch(now)
        self._fill(now)
        self._recover(now)
        if self.onlooker is not None:
            states = {
                each.index: each.child.shared.state if each.child else None for each in self.seats
            }
            self.onlooker.saw(now, states)
        self.notify.alive(now)

    def _finished(self, now: float) -> bool:
        if self._stopped_by is None or self._children():
            return False
        return not self.recoveries or now > self._stopped_by

    def _children(self) -> list[Child]:
        return [seat.child for seat in self.seats if seat.child is not None]

    # --- signals -------------------------------------------------------------

    def _install_signals(self) -> int:
        """Have signals noted down for the loop; return the descriptor that wakes it."""
        wake, alarm = os.pipe()
        os.set_blocking(alarm, False)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        for number in (*_STOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGCHLD):
            signal.signal(number, self._note)
        return wake

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)

    def _obey(self, now: float) -> None:
        while self._signals:
            self._obey_one(self._signals.pop(0), now)
        if self._quiet:
            for child in self._children():
                child.quiet()

    def _obey_one(self, number: int, now: float) -> None:
        if number in _STOP:
            self._stop(now)
        elif number == signal.SIGTSTP:
            self._quiet = True
            log("INFO", "is quiet: children finish what they have, and are not replaced")
        elif number == signal.SIGTTIN:
            for child in self._children():
                child.dump()

    def _stop(self, now: float) -> None:
        """Stop; asked a second time, stop fast."""
        if self._stopped_by is None:
            wait = self.spec.shutdown
            log("INFO", f"stops: running jobs have {wait:g} s")
            self.notify.send("STOPPING=1")
        else:
            wait = 0.0
            log("WARNING", "was asked again: stops without waiting for running jobs")
        by = now + wait + GRACE + LAST_WORK
        self._stopped_by = min(by, self._stopped_by or by)
        for child in self._children():
            child.stop(now + wait + GRACE)

    # --- ends ----------------------------------------------------------------

    def _reap(self, now: float) -> None:
        ours = {child.pid for child in self._children()}
        _reap_strangers(ours | {r.process.pid for r in self.recoveries if r.process is not None})
        for seat in self.seats:
            if seat.child is not None and seat.child.process.poll() is not None:
                self._part(seat, seat.child, now)

    def _part(self, seat: Seat, child: Child, now: float) -> None:
        """A child has ended: send its jobs home, free its seat, and say what happened."""
        code, clean, booted = child.process.returncode, child.left_cleanly, child.booted
        identity, started = child.shared.identity, child.shared.started()
        child.shared.close()
        pause = seat.vacate(now, now - child.born, innocent=clean)
        if self.onlooker is not None:
            self.onlooker.leave(seat.index, clean=clean)
        log(
            "INFO" if clean else "ERROR",
            f"child {seat.index} ended: {in_words(code)}",
            pid=child.pid,
            identity=identity or "-",
            started=",".join(started) or "-",
            pause=pause,
        )
        if identity:
            arguments = [
                *self.spec.recover,
                identity,
                "--started",
                ",".join(started),
                *["--clean"] * clean,
            ]
            self.recoveries.append(Recovery(arguments, identity, now))
        if not booted and self._stopped_by is None:
            self._boot_failed(code, now)

    def _boot_failed(self, code: int, now: float) -> None:
        """Give up if no child ever started and none will, so that a service manager sees the failure."""
        self._boot_failures += 1
        if self._ever_booted or (code != os.EX_CONFIG and self._boot_failures < BOOT_FAILURES):
            return
        self.exit_code = 1
        log(
            "CRITICAL",
            "no worker can start: correct the error that is reported above, then start again",
        )
        self._stop(now)

    # --- beginnings ----------------------------------------------------------

    def _fill(self, now: float) -> None:
        """Put a child on each empty seat that is due: the first ones at once, replacements one a second."""
        if self._stopped_by is not None or self._quiet:
            return
        for seat in self.seats:
            if seat.child is not None or now < seat.due:
                continue
            if seat.used:
                if now < self._last_replacement + 1.0:
                    return
                self._last_replacement = now
            self._spawn(seat, now)

    def _spawn(self, seat: Seat, now: float) -> None:
        seat.used = True
        shared: Shared | None = None
        line: int | None = None
        try:  # each of these takes a descriptor
            shared = Shared.create(self.spec.slots)
            line = self.onlooker.join(seat.index) if self.onlooker is not None else None
            terms = {
                "index": seat.index,
                "shm": shared.fd,
                "life": self._life,
                "line": line,
                "settings": self.spec.settings,
            }
            process = subprocess.Popen(  # noqa: S603  the argv of our own specification
                self.spec.child,
                env={**self._environment, CHILD_VARIABLE: json.dumps(terms)},
                stdin=subprocess.DEVNULL,
                pass_fds=[shared.fd, self._life, *([] if line is None else [line])],
                start_new_session=True,  # a terminal's Ctrl-C must reach it once, through us
            )
        except OSError as error:
            if shared is not None:
                shared.close()
            pause = seat.vacate(now, 0.0, innocent=False)
            log("ERROR", f"child {seat.index} cannot be spawned", error=str(error), pause=pause)
            self._boot_failed(0, now)
            return
        finally:
            if line is not None:
                os.close(line)
        seat.child = Child(process, shared, now)

    # --- watching ------------------------------------------------------------

    def _watch(self, now: float) -> None:
        stood_still = now - self._looked > self.spec.heartbeat
        self._looked = now
        for seat in self.seats:
            if seat.child is None:
                continue
            if stood_still:  # nobody's silence was observed while this process itself was frozen
                seat.child.heard = now
            self._watch_child(seat, seat.child, now)
        booted = [child.booted for child in self._children()]
        self._ever_booted = self._ever_booted or any(booted)
        if not self._announced and len(booted) == len(self.seats) and all(booted):
            self._announced = True
            log("INFO", "is ready")
            self.notify.send("READY=1")

    def _watch_child(self, seat: Seat, child: Child, now: float) -> None:
        if child.ending:
            return
        silence = self.spec.lease - 2 * self.spec.heartbeat if child.booted else BOOT_LIMIT
        if child.silent_for(now) > silence:
            log(
                "ERROR",
                f"child {seat.index} gave no sign for {silence:g} s: SIGKILL",
                pid=child.pid,
            )
            child.sigkill()
        elif child.stop_by is not None and now > child.stop_by:
            log("WARNING", f"child {seat.index} outlived its time to stop: SIGKILL", pid=child.pid)
            child.overdue = True
            child.sigkill()
        elif self.spec.memory_mb is not None:
            self._weigh(seat, child, self.spec.memory_mb, now)

    def _weigh(self, seat: Seat, child: Child, limit: int, now: float) -> None:
        """Ask one child that is too big to stop, one at a time, so that the others go on working.

        One that grows far beyond is not waited for, and what it runs is to blame.
        """
        weight = child.resident_mb()
        if weight > FAR_TOO_BIG * limit:
            text = f"child {seat.index} has {weight:.0f} MB of {limit} allowed: SIGKILL"
            log("ERROR", text, pid=child.pid)
            child.sigkill()
            return
        if weight <= limit or any(other.stop_by is not None for other in self._children()):
            return
        log(
            "WARNING",
            f"child {seat.index} is replaced: {weight:.0f} MB of {limit} allowed",
            pid=child.pid,
        )
        child.too_big = True
        child.stop(now + self.spec.shutdown + GRACE)

    # --- the way home of an ended child's jobs ---------------------------------

    def _recover(self, now: float) -> None:
        working = sum(recovery.process is not None for recovery in self.recoveries)
        for recovery in list(self.recoveries):
            if recovery.process is not None:
                self._look_after(recovery, now)
            elif now >= recovery.due and working < HELPERS_AT_ONCE:
                working += 1
                self._send_helper(recovery, now)

    def _send_helper(self, recovery: Recovery, now: float) -> None:
        terms = json.dumps({"settings": self.spec.settings})
        try:
            recovery.begin({**self._environment, CHILD_VARIABLE: terms}, now)
        except OSError as error:
            log("ERROR", "a helper cannot be spawned", identity=recovery.identity, error=str(error))
            recovery.postpone(now, self.spec.heartbeat)

    def _look_after(self, recovery: Recovery, now: float) -> None:
        code = recovery.exit_code(now)
        if code is None:
            return
        if code == 0:
            self.recoveries.remove(recovery)
            return
        if recovery.tries == 1:
            log(
                "ERROR",
                f"jobs could not be returned yet: {in_words(code)}",
                identity=recovery.identity,
            )
        recovery.postpone(now, self.spec.heartbeat)
        # A stop does not wait for a Redis that is away.
        if now > recovery.give_up or (self._stopped_by is not None and recovery.tries > 1):
            self._leave(recovery)

    def _leave_recoveries(self) -> None:
        for recovery in list(self.recoveries):
            recovery.abandon()
            self._leave(recovery)

    def _leave(self, recovery: Recovery) -> None:
        self.recoveries.remove(recovery)
        log(
            "ERROR",
            f"leaves jobs to other workers: they find them {self.spec.lease:g} s after Redis is back",
            identity=recovery.identity,
        )


def _reap_strangers(ours: set[int]) -> None:
    """Reap ended processes that are not ours: in a container this may be process 1, which adopts every orphan."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in ours:
            return
        os.waitpid(ended.si_pid, os.WNOHANG)


def main() -> int:
    """Run the parent that the environment specifies."""
    spec = Spec(**json.loads(os.environ.pop(SPEC_VARIABLE)))
    write_as(spec.settings.get("log_format", "plain"))
    return Parent(spec, dict(os.environ)).run()


if __name__ == "__main__":
    sys.exit(main())
