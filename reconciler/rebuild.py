"""A rebuild: everything pending that has no job is told, at a chosen rate, most urgent first. Read `Rebuild.run`.

    roll → bookmarks → count → rounds: of each job class one page, the most urgent first → audit

It may be cut off anywhere and begun again, run twice, and run beside passes: the locks make each repetition free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, groupby
from time import monotonic, sleep
from typing import Final, TypeVar

from qik_core.errors import QikError, StoreError, WrongType
from reconciler.definition import Definition
from reconciler.journal import Journal
from reconciler.pacing import Pace
from reconciler.passes import ROLL_TIMEOUT, Tools
from reconciler.rebuilding import Part
from reconciler.rebuilt import Order, Progress, Rebuilt, State
from reconciler.report import INVALID
from reconciler.switches.stopping import why
from reconciler.units import units

PATIENCE: Final = 30.0
"""Seconds for which a rebuild waits for a Redis that does not answer."""
_ROWS: Final = 20_000
"""Rows that are in memory at a time, about."""
_SMALLEST: Final = 50
_AHEAD: Final = 1.0
"""Seconds of work in one page at the most, so that all classes have their turn soon."""
_PAUSE: Final = 0.5
"""Seconds until something that is shut is asked again."""
_LOOK: Final = 0.1
_NAMED: Final = 20
_AGAIN: Final = "rows before were kept back, could not travel, or have no position that can be kept"

T = TypeVar("T")


class _Restarted(Exception):
    """Redis has lost its data: everything begins again."""


class _Stopped(Exception):
    """Somebody asked for the end."""


def rebuild(
    definitions: Sequence[Definition],
    tools: Tools,
    order: Order,
    *,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[Progress], object] = lambda _: None,
) -> Rebuilt:
    """Tell every pending row of these reconcilers that has no job; returns how it ended, also after an error.

    `stop` is asked several times a second and ends it cleanly; `tell` hears how far it is. A rebuild that was cut off,
    less than an hour ago and in the same life of Redis, is gone on with.

    Raises:
        SqlUnavailable: the home database cannot be reached at the beginning.
        NotMigrated: it has no tables of ours.
    """
    return Rebuild(definitions, tools, order, stop, tell).run()


class Rebuild:
    """One rebuild; see `rebuild`."""

    def __init__(
        self,
        definitions: Sequence[Definition],
        tools: Tools,
        order: Order,
        stop: Callable[[], bool],
        tell: Callable[[Progress], object],
    ) -> None:
        self._tools = tools
        self._order = order
        self._stop = stop
        wanted = list(units(definitions, tools.engines))
        live = [each for each in wanted if not each.shadow]
        self._parts = [
            Part(each, tools, self._size(each, len(live)), order.override) for each in live
        ]
        self._journal = Journal(self._parts, tools, order, tell)
        for each in wanted:
            if each.shadow:
                self._journal.note(f"{each.unit} is in shadow: it tells nothing")
        self._pace = Pace(order.rate)
        self._epoch = ""

    def _size(self, definition: Definition, parts: int) -> int:
        """Return the rows of a page: few enough that all parts fit into memory and every class has its turn soon."""
        size = min(definition.batch_size, _ROWS // max(1, parts))
        if self._order.rate is not None:
            size = min(size, int(self._order.rate * _AHEAD))
        return max(min(_SMALLEST, definition.batch_size), size)

    def run(self) -> Rebuilt:
        """Rebuild; every way to end is a result, and is in the audit."""
        self._journal.begin()
        error: Exception | None = None
        try:
            self._lives()
        except _Stopped:
            self._finish(State.STOPPED, "stopped; run it again to go on from here")
        except QikError as raised:
            error = raised
            self._finish(State.FAILED, str(raised))
        finally:
            for part in self._parts:
                part.close()
        self._journal.keep(self._epoch, sure=True)
        return self._journal.end(error)

    def _lives(self) -> None:
        """Rebuild, from the bottom again whenever Redis loses its data on the way."""
        for life in count():
            try:
                self._epoch = self._patiently(self._tools.watch.look)
                if life == 0:
                    self._begin()
                self._count()
                self._rounds()
            except _Restarted:
                self._journal.note("Redis lost its data: the rebuild begins again")
                for part in self._parts:
                    part.restart()
            else:
                return

    # --- the beginning ---------------------------------------------------------------------------

    def _begin(self) -> None:
        deleted = self._patiently(self._roll)
        if not (self._order.fresh or deleted):
            self._go_on()

    def _count(self) -> None:
        for part in self._parts:
            self._check()
            if part.total is None and part.state is State.READY:
                self._of_part(part, part.count)
            self._journal.show()

    def _roll(self) -> bool:
        """Collect locks without a job, whose rows would look told; returns whether somebody had deleted jobs."""
        self._journal.waits = "locks without a job are collected"
        self._journal.show(sure=True)
        queues = sorted({queue for part in self._parts for queue in part.definition.queues})
        deleted = self._tools.seam.audit(queues)
        if not self._tools.seam.roll(monotonic() + ROLL_TIMEOUT, self._sleep):
            self._journal.note(
                "locks without a job are not yet collected: their rows are told by the next pass"
            )
        self._journal.waits = ""
        return deleted

    def _go_on(self) -> None:
        """Take up the bookmarks of a rebuild that was cut off."""
        marks = self._journal.bookmarks()
        for part in self._parts:
            mark = marks.get(part.unit)
            if mark is None:
                continue
            if mark.goes_on(self._epoch):
                part.resume(mark)
            if mark.under_way:
                self._journal.note(
                    f"{mark.holder} rebuilds {part.unit} too, or did until now: that does no harm"
                )
            elif mark.begins_again(self._epoch):
                self._journal.note(f"{part.unit} begins again with its first row: {_AGAIN}")
        resumed = [part for part in self._parts if part.resumed]
        if resumed:
            rows = sum(part.before for part in resumed)
            names = ", ".join(part.unit for part in resumed[:_NAMED])
            self._journal.note(f"goes on where it was cut off, behind {rows:,} rows: {names}")

    # --- the rounds ------------------------------------------------------------------------------

    def _rounds(self) -> None:
        while any(part.state is State.READY for part in self._parts):
            turns = self._turns()
            for part in turns:
                self._check()
                self._of_part(part, lambda part=part: self._turn(part))  # type: ignore[misc]
            self._journal.waits = (
                "" if turns else next((part.waits for part in self._parts if part.waits), "")
            )
            if not turns:
                self._sleep(_PAUSE)

    def _turns(self) -> list[Part]:
        """Return the most urgent part of each job class, the most urgent of all first."""
        ready = sorted(self._loaded(), key=lambda part: (part.definition.facts.name, part.urgency))
        classes = groupby(ready, key=lambda part: part.definition.facts.name)
        return sorted((next(parts) for _, parts in classes), key=lambda part: part.urgency)

    def _loaded(self) -> Iterator[Part]:
        """Yield the parts that have a page at hand and need not wait; those without rows are through."""
        for part in self._parts:
            self._check()
            if part.state is not State.READY or monotonic() < part.until:
                continue
            there = self._of_part(part, part.load)
            if there:
                yield part
            elif part.state is State.READY:
                self._complete(part)

    def _turn(self, part: Part) -> None:
        """Tell the rows of one page; what finds no room waits for a later round."""
        if not self._may(part):
            return
        part.waits = ""
        part.untold()
        while part.rest:
            room = self._room(part)
            if not room:
                return
            self._sleep(self._pace.wait())
            before = len(part.rest)
            if part.push(room, self._window(part)) != self._epoch:
                raise _Restarted
            self._pace.took(before - len(part.rest or ()))
            if part.full:
                self._block(part, "the queue or Redis is full")
                return
            self._journal.show()
        part.turned()
        self._journal.keep(self._epoch)

    def _may(self, part: Part) -> bool:
        """Whether no switch stops this part, or one of a reconciler that is overridden."""
        stop = self._tools.stops.whole(part.definition)
        if stop is None:
            return True
        if not part.overrides(stop):
            part.state, part.reason = State.SWITCHED_OFF, why(stop)
            if self._order.override:
                part.reason += f"; enable {stop.flag}: workers would not run what is told"
            return False
        if stop.flag not in self._journal.overridden:
            self._journal.overridden.append(stop.flag)
            self._journal.note(f"overridden: {part.unit} is {why(stop)}")
        return True

    def _room(self, part: Part) -> int:
        room, reason = self._tools.gates.room(part.definition)
        if room == 0:
            self._block(part, reason)
        most = self._pace.most()
        limits = [each for each in (room, most, part.size) if each is not None]
        return min(limits)

    @staticmethod
    def _block(part: Part, reason: str) -> None:
        part.waits, part.until = reason, monotonic() + _PAUSE

    def _window(self, part: Part) -> float:
        """Return the seconds over which jobs are spread behind their turn; see ADR 0120."""
        if self._order.jitter is not None:
            return self._order.jitter
        own, total = part.definition.jitter, self._journal.total()
        if self._order.rate is None or total is None:
            return own
        return own if own > total / self._order.rate else 0.0

    @staticmethod
    def _complete(part: Part) -> None:
        part.close()
        part.state, said = State.COMPLETED, part.kept_back()
        if invalid := part.codes[INVALID]:
            shown = "; ".join(part.invalid)
            said = [f"{invalid} rows have arguments that cannot travel, as {shown}", *said]
            part.state = State.FAILED
        part.reason = "; ".join(said)

    def _finish(self, state: State, reason: str) -> None:
        for part in self._parts:
            if part.state is State.READY:
                part.state, part.reason = state, reason

    # --- what may fail ---------------------------------------------------------------------------

    def _of_part(self, part: Part, work: Callable[[], T]) -> T | None:
        """Do something for one part; an error of its own, as of its database or a key of its queue, ends this part alone."""
        try:
            return self._patiently(work)
        except WrongType as error:
            self._fail(part, error)
        except (_Restarted, _Stopped, StoreError):
            raise
        except Exception as error:  # noqa: BLE001 - one broken reconciler must not stop the others
            self._fail(part, error)
        return None

    def _fail(self, part: Part, error: Exception) -> None:
        part.state = State.FAILED
        part.reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        self._journal.note(f"{part.unit}: {part.reason}")
        part.close()

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do something; again, for PATIENCE, while Redis does not answer."""
        until: float | None = None
        while True:
            try:
                return work()
            except WrongType:
                raise
            except StoreError as error:
                until = until or monotonic() + PATIENCE
                if monotonic() > until:
                    raise
                self._journal.waits = str(error)
                self._sleep(_PAUSE)
                self._journal.waits = ""

    def _check(self) -> None:
        if self._stop():
            raise _Stopped
        if self._epoch and self._patiently(self._tools.watch.recent) != self._epoch:
            raise _Restarted

    def _sleep(self, seconds: float) -> None:
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            if self._stop():
                raise _Stopped
            sleep(min(_LOOK, left))
            self._journal.keep(self._epoch)
            self._journal.show()
