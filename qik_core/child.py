"""One worker process: `python -m qik_core.child`, started by a parent.

The order of a life: settings and shared memory from the parent, the application imported, a place in Redis taken; then
threads for the jobs, the courier, the heartbeat, the poller and the roller, while the main thread waits for signals.

The end: quiet, finish what fits into the shutdown time, hand back what has not started, and leave by `os._exit`, because
a thread that runs a job cannot be ended. The parent's helper returns what was still running.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from qik_core import application, logs, tallies
from qik_core.errors import HookFailed, QikError
from qik_core.heartbeat import Ticker
from qik_core.settings import Settings, current, use
from qik_core.shared import Shared, State
from qik_core.tallies import Tallies
from qik_core.worker import Site, Worker, start

log: Final = logging.getLogger("qik_core.worker")
_STOP: Final = (signal.SIGTERM, signal.SIGINT)
_TURN: Final = 0.001  # the courier gets the GIL after 1 ms of jobs, so that the next ones are on their way in time
_HANGS: Final = 10.0  # seconds of one turn of the courier after which it hangs, and no less than the lease: each call has 2 s
_FAREWELL: Final = 1.5  # seconds that functions for the exit may take; the parent gives 3 s


def main() -> None:
    """Live. Ends by `os._exit`."""
    terms = json.loads(
        os.environ.pop("QIK_CHILD")
    )  # it holds passwords: nothing that a job spawns may see it
    shared = Shared.attach(terms["shm"])
    logs.set_up(terms["settings"]["log_level"].upper(), terms["settings"]["log_format"])
    code = 0
    try:
        settings, line = _settings(terms["settings"]), terms.get("line")
        counting = None if line is None else tallies.begin()
        child = Child(shared, terms["life"], settings)
        if counting is not None:
            child.report(line, counting)
        child.live()
    except HookFailed as error:
        log.critical("%s", error, exc_info=error.__cause__)
        code = 1
    except QikError as error:
        log.critical("%s", error)
        code = os.EX_CONFIG
    except BaseException:
        log.exception("the process ends")
        code = 1
    logs.finish()
    os._exit(code)


def _settings(given: Mapping[str, Any]) -> Settings:
    use(Settings.from_json(json.dumps(given)))
    if app := current().app:
        application.load(app)
        if not application.jobs():
            log.warning(
                "the application defines no job: what is pushed stays unknown here",
                extra={"app": app},
            )
        _warn_of_unserved(current())
    logs.carry_job_fields()
    return current()


def _warn_of_unserved(settings: Settings) -> None:
    """Say which queues of the application this process does not serve; others may."""
    if left := application.unserved(settings.served):
        log.warning(
            "queues of this application are not served here: %s; unless another process serves them, add `-q NAME`",
            application.named(left),
        )


class Child:
    """A worker in a process of its own: its signals, and the memory that it shares with its parent."""

    def __init__(self, shared: Shared, life: int, settings: Settings) -> None:
        self._shared = shared
        self._life = life
        self._settings = settings
        self._woken = threading.Event()
        self._told: list[int] = []
        self._failed: BaseException | None = None
        self._last_words: Callable[[], None] = lambda: None
        self._worker = Worker(
            settings,
            Site(
                identified=self._take_identity,
                marker=shared.marker,
                signalled=lambda number: os.kill(os.getpid(), number),
                end=_end,
            ),
        )

    def live(self) -> None:
        """Work until told to stop."""
        sys.setswitchinterval(_TURN)
        every = min(0.2, self._settings.heartbeat / 4)
        start(Ticker(self._shared, every, self._works).run, "ticker")
        self._install_signals()
        start(self._watch_parent, "life")
        self._worker.prepare()
        self._shared.state = State.READY
        beginning = start(self._begin, "begin")
        self._obey()
        if self._failed is not None:
            raise self._failed
        self._shared.state = State.STOPPING
        beginning.join(_FAREWELL)
        self._finish(time.monotonic() + self._settings.shutdown)

    def report(self, line: int, counting: Tallies) -> None:
        """Answer the parent's questions for metrics, which come on this descriptor."""
        from qik_core.metrics import Reporter

        os.set_inheritable(line, False)  # noqa: FBT003 - what a job spawns must not keep it open
        reporter = Reporter(socket.socket(fileno=line), self._worker.courier.capsules, counting)
        self._last_words = reporter.last
        start(reporter.run, "metrics")

    def _works(self) -> bool:
        """Whether the courier turns: a process whose courier hangs would run nothing, and look alive."""
        courier = self._worker.courier
        hangs = time.monotonic() - courier.turned_at > max(_HANGS, self._settings.lease)
        return not hangs or not courier.turned_at or courier.closed.is_set()

    def _begin(self) -> None:
        """Wait for Redis in a thread of its own: signals are obeyed meanwhile."""
        try:
            self._worker.begin(lambda: signal.SIGTERM in self._told)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._failed = error
            self._woken.set()

    def _take_identity(self, identity: str) -> None:
        self._shared.identity = identity

    def _install_signals(self) -> None:
        for number in (*_STOP, signal.SIGTSTP, signal.SIGTTIN):
            signal.signal(number, self._tell)
        # Stacks are written in the signal's own handler: a job that holds the GIL lets no Python code run.
        faulthandler.register(signal.SIGTTIN, all_threads=True, chain=True)

    def _tell(self, number: int, _frame: object) -> None:
        self._told.append(signal.SIGTERM if number in _STOP else number)
        self._woken.set()

    def _watch_parent(self) -> None:
        os.read(self._life, 1)
        log.warning("the parent is gone: stopping")
        self._told.append(signal.SIGTERM)
        self._woken.set()

    def _obey(self) -> None:
        while signal.SIGTERM not in self._told and self._failed is None:
            # A bounded wait: a signal handler runs only between two instructions of this thread.
            self._woken.wait(0.5)
            self._woken.clear()
            if signal.SIGTSTP in self._told and not self._worker.is_quiet:
                self._worker.quiet()
                self._shared.state = State.QUIET
            if signal.SIGTTIN in self._told:
                self._told.remove(signal.SIGTTIN)
                logs.tell_threads()

    @property
    def _in_haste(self) -> bool:
        """Whether TERM came twice."""
        return self._told.count(signal.SIGTERM) > 1

    def _finish(self, deadline: float) -> None:
        if not self._worker.close(deadline, lambda: self._in_haste):
            running = len(self._worker.courier.capsules.running())
            log.warning("these jobs go back to their queues", extra={"count": running})
        self._worker.leave(time.monotonic() + _FAREWELL)
        self._last_words()


def _end() -> None:
    log.critical("this process ends itself: a run in it can be ended in no other way")
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
