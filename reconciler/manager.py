"""A process of reconcilers: one clock, one keeper, one watcher, a runner for each reconciler.

Any number of such processes may run: leases share the reconcilers out. SIGTERM ends one within seconds and gives its
leases back; one that dies is replaced when its leases have expired.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Event, Thread
from time import monotonic, time
from typing import Final

from qik_core.errors import QikError
from qik_core.passes import Passes
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.keeper import Keeper, Periodic, Watcher
from reconciler.lease import Change, Leases, identity
from reconciler.ledger import Ledger
from reconciler.passes import Tools
from reconciler.report import Report
from reconciler.runner import Runner
from reconciler.scheduler import Clock
from reconciler.watch import Watch

log: Final = logging.getLogger("reconciler")

GRACE: Final = 5.0
"""Seconds that passes under way have to end when the process stops."""
_LOOK: Final = 0.5
_JUMP: Final = 2.0
"""Seconds that the wall clock must have moved against the monotonic one to count as set."""
_SLOWEST_POLL: Final = 2.0


class Manager:
    """Runs reconcilers until it is stopped. `lease` is how long a lease lasts, in seconds."""

    def __init__(
        self,
        definitions: Sequence[Definition],
        engines: Engines,
        seam: Passes,
        *,
        lease: float,
        told: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self.holder = identity()
        home = engines.home()
        names = [each.name for each in definitions]
        self._leases = Leases(home, names, lease, holder=self.holder, busy=self._busy)
        ledger = Ledger(home, self.holder)
        watch = Watch(seam)
        tools = Tools(seam, watch, engines, ledger)
        self._runners = {
            each.name: Runner(each, tools, self._leases, told=told) for each in definitions
        }
        self._clock = Clock(lambda name: self._runners[name].wake())
        self._keeper = Keeper(self._leases, ledger, min(_SLOWEST_POLL, lease / 6), self._changed)
        self._watcher = Watcher(watch, self._wake_all, self._wake_failed)
        self._stop = Event()

    def run(self) -> bool:
        """Run until `stop()`; False when a pass hung and this process has to be replaced.

        Raises:
            SqlUnavailable: the home database cannot be reached at the start.
            NotMigrated: it has no tables of ours.
        """
        self._leases.register()
        for runner in self._runners.values():
            runner.start()
            self._clock.add(runner.definition.name, runner.definition.every)
        for thread in self._threads:
            thread.start()
        self._clock.start()
        log.info(
            "reconcilers run", extra={"holder": self.holder, "reconcilers": ",".join(self._runners)}
        )
        try:
            return self._look_after()
        finally:
            self._end()

    def stop(self) -> None:
        """Have `run` end; may be called from a signal handler."""
        self._stop.set()

    @property
    def _threads(self) -> tuple[Periodic, Periodic]:
        return self._watcher.thread, self._keeper.thread

    def _look_after(self) -> bool:
        ahead = time() - monotonic()
        while not self._stop.wait(_LOOK):
            now_ahead = time() - monotonic()
            if abs(now_ahead - ahead) > _JUMP:
                log.warning("the clock was set", extra={"seconds": f"{now_ahead - ahead:+.1f}"})
                self._clock.again()
            ahead = now_ahead
            stuck = [name for name, runner in self._runners.items() if runner.stuck()]
            if stuck:
                log.error(
                    "a pass hangs: this process ends to be replaced",
                    extra={"reconciler": ",".join(stuck)},
                )
                return False
        return True

    def _end(self) -> None:
        """Stop everything and give the leases back, within GRACE and a few seconds."""
        deadline = monotonic() + GRACE
        self._clock.stop()
        for runner in self._runners.values():
            runner.stop()
        for runner in self._runners.values():
            runner.join(deadline - monotonic())
        for thread in self._threads:
            thread.stop(deadline - monotonic())
        release = Thread(target=self._release, daemon=True)
        release.start()
        release.join(GRACE / 2)
        log.info("reconcilers ended", extra={"holder": self.holder})

    def _release(self) -> None:
        try:
            self._leases.release()
        except QikError as error:
            log.warning("leases not given back: they expire", extra={"error": str(error)})

    def _changed(self, change: Change) -> None:
        for name in change.taken:
            log.info("lease taken", extra={"reconciler": name, "term": self._leases.term(name)})
            self._runners[name].wake()
        for name in change.given:
            log.info("lease given to a process with fewer", extra={"reconciler": name})
        for name in change.lost:
            log.warning("lease lost", extra={"reconciler": name})

    def _busy(self, name: str) -> bool:
        return self._runners[name].busy

    def _wake_all(self) -> None:
        for runner in self._runners.values():
            runner.wake()

    def _wake_failed(self) -> None:
        for runner in self._runners.values():
            if runner.failures:
                runner.wake()
