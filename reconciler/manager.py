"""A process of reconcilers: one clock, one keeper, one watcher, a runner for each unit: a reconciler, or a shard of it.

Any number of such processes may run: leases share the reconcilers out. SIGTERM ends one within seconds and gives its
leases back; one that dies is replaced when its leases have expired.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread
from time import monotonic, time
from typing import Final

from qik_core.errors import QikError
from qik_core.passes import Passes
from qik_core.switches import Snapshot
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.keeper import Keeper, Watcher
from reconciler.lanes import Lanes
from reconciler.lease import Change, Leases, identity
from reconciler.lost import Noticed
from reconciler.passes import Tools
from reconciler.periodic import Periodic
from reconciler.report import Report
from reconciler.runner import Runner
from reconciler.scheduler import Clock
from reconciler.scribe import Scribe, installed
from reconciler.sharding import Sharding, Units, by_shards
from reconciler.switches.making import switchboard

log: Final = logging.getLogger("reconciler")

_DRAIN: Final = 10.0
GRACE: Final = 5.0
"""Seconds that passes under way have to end when the process stops."""
_LOOK: Final = 0.5
_JUMP: Final = 2.0
"""Seconds that the wall clock must have moved against the monotonic one to count as set."""
_SLOWEST_POLL: Final = 5.0
"""Seconds between two looks at the leases, unless one expires earlier: what was given back is taken within so long."""


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
        names = [each.name for each in definitions]
        self._leases = Leases(engines.home(), names, lease, holder=self.holder, busy=self._busy)
        self._tools = Tools.of(seam, engines, self.holder)
        self._lanes = Lanes()
        self._told = told
        self._plain = [each for each in definitions if each.shards is None]
        self._sharding = [Sharding(each, engines, self._reshard) for each in by_shards(definitions)]
        self._runners: dict[str, Runner] = {}
        self._ended: dict[str, Runner] = {}
        self._changing = Lock()
        self._clock = Clock(self._due)
        self._watcher = Watcher(self._tools.watch, self._lost, self._back)
        self._scribe = Scribe(engines.home(), seam, self.holder)
        self._keeper = Keeper(
            self._leases,
            self._tools.ledger,
            min(_SLOWEST_POLL, lease / 6),
            self._changed,
            fit=lambda: self._watcher.away < lease,
        )
        self._ends = Periodic("drain", _DRAIN, self._drain)
        self._switchboard = switchboard(engines.home(), seam, self.holder, self._switched)
        self._stop = Event()
        self.turned: Callable[[], None] = lambda: None
        """Called whenever it has looked after its runners."""

    def run(self) -> bool:
        """Run until `stop()`; False when a pass hung and this process has to be replaced.

        Raises:
            SqlUnavailable: the home database cannot be reached at the start.
            NotMigrated: it has no tables of ours.
        """
        self._leases.follow(each.name for each in self._plain)
        self._leases.register()
        self._scribe.begin(installed())
        for each in self._plain:
            self._begin(each)
        for thread in self._threads:
            thread.start()
        self._switchboard.start()
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
    def units(self) -> list[str]:
        """The reconcilers and shards that there are now, whoever runs them."""
        return list(self._runners)

    @property
    def _threads(self) -> list[Periodic]:
        return [
            self._watcher.thread,
            self._keeper.thread,
            self._ends,
            self._scribe.thread,
            *(each.thread for each in self._sharding),
        ]

    def _look_after(self) -> bool:
        ahead = time() - monotonic()
        while not self._stop.wait(_LOOK):
            self.turned()
            now_ahead = time() - monotonic()
            if abs(now_ahead - ahead) > _JUMP:
                log.warning("the clock was set", extra={"seconds": f"{now_ahead - ahead:+.1f}"})
                self._clock.again()
            ahead = now_ahead
            stuck = [name for name, runner in self._runners.items() if runner.stuck()]
            if stuck:
                log.error(
                    "a pass hangs, or its thread has ended: this process ends to be replaced",
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
        self._switchboard.stop(deadline - monotonic())
        release = Thread(target=self._release, daemon=True)
        release.start()
        release.join(GRACE / 2)
        log.info("reconcilers ended", extra={"holder": self.holder})

    def _release(self) -> None:
        for give_back in (self._leases.release, self._switchboard.release, self._tools.watch.leave):
            try:
                give_back()
            except QikError as error:
                log.warning("not given back: it expires", extra={"error": str(error)})

    def _drain(self) -> None:
        """Take over how jobs have ended; passes do so too, but some run once a day."""
        self._tools.states.drain()

    # --- units -----------------------------------------------------------------------------------

    def _begin(self, definition: Definition, after: Runner | None = None) -> None:
        unit = definition.unit
        runner = Runner(definition, self._tools, self._leases, self._lanes, told=self._told)
        self._runners = {**self._runners, unit: runner}  # others walk over the one before
        runner.start(after)
        self._clock.add(unit, definition.every, definition.cron)

    def _reshard(self, definitions: Sequence[Definition], units: Units) -> None:
        """Begin with shards that have appeared, end with those that are gone."""
        names = {each.name for each in definitions}
        with self._changing:
            there = {unit for unit, each in self._runners.items() if each.definition.name in names}
            for unit in sorted(there - units.keys()):
                log.info("shard gone", extra={"reconciler": unit})
                self._clock.remove(unit)
                self._ended[unit] = self._runners[unit]
                self._ended[unit].stop("the shard is gone")
            left = self._ended.keys() & there
            self._runners = {u: each for u, each in self._runners.items() if u not in left}
            for unit in sorted(units.keys() - there):
                log.info("shard found", extra={"reconciler": unit})
                self._begin(units[unit], self._ended.pop(unit, None))
            self._leases.follow(self._runners)
        self._keeper.thread.hurry()

    def _changed(self, change: Change) -> None:
        terms = {unit: self._leases.term(unit) for unit in change.taken}
        self._scribe.took({unit: term for unit, term in terms.items() if term is not None})
        for unit in change.taken:
            log.info("lease taken", extra={"reconciler": unit, "term": self._leases.term(unit)})
            self._due(unit)
        for unit in change.given:
            log.info("lease given back", extra={"reconciler": unit})
        for unit in change.lost:
            log.warning("lease lost", extra={"reconciler": unit})

    def _due(self, unit: str) -> None:
        runner = self._runners.get(unit)
        if runner is not None:
            runner.wake()

    def _busy(self, unit: str) -> bool:
        runner = self._runners.get(unit)
        return runner is not None and runner.busy

    def _switched(self, before: Snapshot, after: Snapshot) -> None:
        """Have passes run at once that a switch has let go, or stops from now on."""
        for runner in self._runners.values():
            of = runner.definition
            about = of.facts.name, of.queue or of.facts.queue, of.name
            if before.about(*about) != after.about(*about):
                runner.wake()

    def _lost(self, noticed: Noticed) -> None:
        self._wake_all()
        self._scribe.lost(noticed)

    def _wake_all(self) -> None:
        self._keeper.thread.hurry()
        for runner in self._runners.values():
            runner.wake()

    def _back(self, moved: bool) -> None:  # noqa: FBT001 - a callback
        """Redis answers again; a server that restarted or took over may lack what was written last, which nothing shows."""
        if moved:
            log.info("another start of redis answers, every pass runs now")
            self._wake_all()
            return
        self._keeper.thread.hurry()
        for runner in self._runners.values():
            if runner.failures:
                runner.wake()
