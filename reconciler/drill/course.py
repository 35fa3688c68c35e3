"""The course of a drill: under load, one fault after the other, each when the one before has healed; then until all is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from time import monotonic
from typing import Final, Protocol

from qik_core.drilling import Place
from reconciler.drill.errors import NoMoment, NotDrained
from reconciler.drill.evidence import Fault, Left, Sample
from reconciler.drill.kinds import TITLES, Kind
from reconciler.drill.processes import Process
from reconciler.drill.rows import Pending
from reconciler.drill.strikes import Sight, Stage, Struck, strike

_EVERY: Final = 0.1
"""Seconds between two looks."""
MOMENT: Final = 30.0
"""Seconds that a fault may wait for its moment."""
HEAL: Final = 60.0
"""Seconds that a fault may take to heal, beyond what its rows' reconcilers may take to begin; then the next one comes, and
the verdict says so."""
STUCK: Final = 30.0
"""Seconds without any progress, beyond that again, after which the drill ends."""
DRAIN: Final = 600.0
"""Seconds, beyond that again, that the work may go on when no more is added."""
_CALM: Final = 1.0
"""Seconds between the healing of a fault and the next one."""
_WAITING: Final = (Place.QUEUED, Place.SCHEDULED, Place.RETRYING, Place.HELD)


class Show(Protocol):
    """Somewhere to show a drill while it runs."""

    def show(self, sample: Sample, healing: str) -> None:
        """Show how things stand, and which fault is healing; empty for none."""

    def say(self, text: str) -> None:
        """Say what has happened."""


@dataclass(slots=True)
class Healing:
    """A fault that has happened, and what is known of its end."""

    fault: Fault
    hit: frozenset[str]
    by_run: bool
    within: float = 0.0
    """Seconds that the reconcilers of these rows may take to begin a pass that tells them."""
    healed: dict[str, float] = field(default_factory=dict)
    """Which rows have healed, and when."""

    @classmethod
    def of(cls, kind: Kind, struck: Struck, within: float = 0.0) -> Healing:
        """Return a fault that has just happened."""
        count = len(struck.hit)
        fault = Fault(
            kind,
            struck.at,
            struck.over,
            count,
            struck.running,
            struck.held,
            note=struck.note,
        )
        return cls(fault, struck.hit, struck.by_run, within)

    def look(self, seen: Sight, started: Mapping[str, float]) -> bool:
        """Take in what is seen now; return whether everything has just healed. `started`: when each row ran again."""
        if self.fault.healed is not None:
            return False
        for key in self.hit - self.healed.keys():
            if self.by_run and key in started:
                self.healed[key] = started[key]
            elif (
                key not in seen.pending
                or key in seen.held
                or (not self.by_run and key in seen.told)
            ):  # nobody owes it a job any more
                self.healed[key] = seen.at
        moments = self.healed.values()
        first = min(moments, default=None)
        whole = max(moments, default=seen.at) if len(self.healed) == len(self.hit) else None
        self.fault = replace(self.fault, first=first, healed=whole)
        return whole is not None


class Course:
    """One drill: what was seen, and what was done. Not for two threads at once."""

    def __init__(self, began: float, processes: Sequence[Process], show: Show) -> None:
        self._began = began
        self._processes = processes
        self._show = show
        self._pause = Event()
        self.stage: Stage
        """What faults act upon: it looks through this course, so it comes second."""
        self.samples: list[Sample] = []
        self.healings: list[Healing] = []
        self.missed: list[Fault] = []
        self.rows: dict[str, Pending] = {}
        """The rows that were seen pending, by the keys of their jobs."""
        self._met: set[str] = set()
        self._moved: tuple[object, float] = (None, 0.0)

    # --- what faults see -------------------------------------------------------------------------

    def now(self) -> float:
        """Return the seconds since the drill began."""
        return monotonic() - self._began

    def look(self) -> Sight:
        """Look at Redis, the database and the notes of runs, and take it in."""
        stage = self.stage
        stage.runs.look()
        pending = stage.rows.pending()
        census = stage.scratch.census()
        alive = {key.decode() for key in census.alive} & pending.keys()
        told = stage.rows.told(sorted(alive)) if alive else set()
        bare = pending.keys() - alive
        held = stage.rows.held() if bare else {}
        held = {key: why for key, why in held.items() if key in bare}
        seen = Sight(self.now(), census, pending, frozenset(told), held)
        self._take(seen)
        return seen

    def wait(self, condition: Callable[[Sight], bool], seconds: float | None = None) -> bool:
        """Look until a condition holds; False if it did not in time."""
        until = self.now() + (MOMENT if seconds is None else seconds)
        while not condition(self.look()):
            if self.now() > until:
                return False
            self._check()
            self._pause.wait(_EVERY)
        return True

    # --- the drill -------------------------------------------------------------------------------

    def run(self, kinds: Sequence[Kind], seconds: float) -> None:
        """Do these faults, for so long at least; processes run and rows come meanwhile.

        Raises:
            ProcessFailed: a process ended by itself.
        """
        for kind in kinds:
            self.wait(lambda _: False, _CALM)
            self._strike(kind)
            self.wait(lambda _: self._is_healed, HEAL + self._within)
        self.wait(lambda _: False, max(0.0, seconds - self.now()))

    def drain(self, done: Callable[[Sight], bool]) -> Sight:
        """Look until all is done or nothing moves any more; returns what is seen then.

        Raises:
            NotDrained: something moves still when it should have come to rest long ago.
            ProcessFailed: a process ended by itself.
        """
        began = self.now()
        self._moved = (None, began)
        while True:
            seen = self.look()
            within = max((seen.pending[key].within for key in seen.owed), default=0.0)
            if (done(seen) and self._is_healed) or self._stuck(seen, within):
                return seen
            if seen.at - began > DRAIN + within:
                raise NotDrained(
                    f"{len(seen.pending)} rows are pending and {seen.census.count()} jobs are there {DRAIN + within:g} s "
                    "after the last row was added, and things move still: either jobs end well and leave their rows "
                    "pending, or there is too much to do: name a database with fewer pending rows"
                )
            self._check()
            self._pause.wait(_EVERY)

    def faults(self) -> tuple[Fault, ...]:
        """Return all faults, in the order of their moments."""
        found = [*(healing.fault for healing in self.healings), *self.missed]
        return tuple(sorted(found, key=lambda fault: fault.at))

    def left(self, seen: Sight) -> Left:
        """Return what is there at the end."""
        census = seen.census
        bare = seen.pending.keys() - {key.decode() for key in census.alive}
        held: dict[str, tuple[str, ...]] = {
            why: self._named(seen, [key for key, each in seen.held.items() if each == why])
            for why in sorted(set(seen.held.values()))
        }
        return Left(
            {str(place): census.count(place) for place in Place},
            self.stage.scratch.locks(),
            self._named(seen, bare - seen.held.keys()),
            self._named(seen, seen.pending.keys() - bare),
            held,
        )

    # --- how -------------------------------------------------------------------------------------

    @property
    def _is_healed(self) -> bool:
        return all(healing.fault.healed is not None for healing in self.healings)

    @property
    def _within(self) -> float:
        waiting = [each.within for each in self.healings if each.fault.healed is None]
        return max(waiting, default=0.0)

    @staticmethod
    def _named(seen: Sight, keys: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(seen.pending[key].name for key in keys))

    def _strike(self, kind: Kind) -> None:
        try:
            struck = strike(kind, self.stage)
        except NoMoment as error:
            at = self.now()
            self.missed.append(Fault(kind, at, at, 0, 0, missed=str(error)))
            self._show.say(f"{at:6.1f} s  not done: {TITLES[kind]}: {error}")
            return
        within = max((self.rows[key].within for key in struck.hit), default=0.0)
        self.healings.append(Healing.of(kind, struck, within))
        self._show.say(
            f"{struck.at:6.1f} s  FAULT: {TITLES[kind]}; {len(struck.hit)} rows hit, {struck.running} running"
        )

    def _take(self, seen: Sight) -> None:
        """Draw what is seen, and look whether faults have healed."""
        self.rows.update(seen.pending)
        self._met |= seen.pending.keys() | self.stage.runs.ended_well
        sample = Sample(
            seen.at,
            len(seen.pending),
            seen.census.count(*_WAITING),
            seen.census.count(Place.RUNNING),
            len(self._met - seen.pending.keys()),
            seen.census.count(Place.QUEUED),
        )
        self.samples.append(sample)
        for healing in self.healings:
            started = self.stage.runs.started_since(healing.fault.at) if healing.by_run else {}
            if healing.look(seen, started):
                took = healing.fault.took or 0.0
                self._show.say(
                    f"{seen.at:6.1f} s  healed: {healing.fault.title}, after {took:.1f} s"
                )
        under_way = [each for each in self.healings if each.fault.healed is None]
        said = "; ".join(f"{len(each.healed)}/{len(each.hit)} healed" for each in under_way)
        self._show.show(sample, said)

    def _stuck(self, seen: Sight, within: float) -> bool:
        moved = (len(seen.pending), seen.census.count(), len(self._met), len(self.stage.runs))
        if moved != self._moved[0]:
            self._moved = (moved, seen.at)
        return seen.at - self._moved[1] > STUCK + within

    def _check(self) -> None:
        for process in self._processes:
            process.check()
