"""Who runs which reconciler: leases in SQL, each with a term that rises whenever it is taken.

A lease saves work and does not guard correctness: two holders would tell the same rows twice, and the locks of the jobs
make that free. So any doubt means stepping down. Trust ends by this process's own monotonic clock, counted from when
the renewal *began*: a slow answer shortens it, so that we stop before the database lets somebody else start. Expiry is
judged by the database's clock alone.

What is leased is a *unit*: a reconciler, or one shard of it, `Name/shard`. However many there are, a look costs the same
few statements: one UPDATE renews all that a process holds, one SELECT reads the whole table, which has a row per unit.

Every process also has a row of its own (named `#` and a digest of what it could run), so that all know how many they
are: nobody takes more than a fair share, and who has more gives back what is idle. Work spreads when a process joins.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import ceil
from threading import Lock
from time import monotonic
from typing import Any, Final

from sqlalchemy import Connection, Engine, Executable, delete, or_, select, tuple_, update
from sqlalchemy.sql.elements import ColumnElement

from reconciler.sql import again, clock, missing_rows, writing
from reconciler.tables import lease

PROCESS: Final = "#"
"""Begins the names of rows that stand for a process; names of reconcilers begin with a letter."""
_FORGOTTEN: Final = 3_600.0
"""Seconds after which the row of a process that ended without a word is removed."""
_KEEP: Final = 30 * 86_400.0
"""Seconds after which the row of a unit that nobody runs any more is removed; who does run it makes it again."""
_SOON: Final = 0.05
"""Seconds behind the expiry of somebody else's lease at which it is looked at: its rows expire a moment apart."""
_ROWS: Final = 500
"""Rows that one statement names."""
_MARGIN: Final = 1.0
"""Seconds before its expiry at which a lease is not trusted any more; a tenth of a short lease."""


def identity() -> str:
    """Return a name for this start of this process: host names and process ids come back, these never do."""
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{os.urandom(4).hex()}"


@dataclass(frozen=True, slots=True)
class Held:
    """One lease that this process holds."""

    term: int
    until: float
    """Monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one renewal changed, by unit."""

    taken: Sequence[str]
    """Held now and not trusted just before: what was asked of them meanwhile was not done."""
    lost: Sequence[str]
    given: Sequence[str] = ()
    """Given back, because others have less."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The table of leases, as one process reads it."""

    mine: Mapping[str, int]
    """Unit → term."""
    free: Sequence[str]
    stray: Sequence[str]
    """Units that have our name and are not ours: of no shard that is there any more, or stepped down from."""
    missing: Sequence[str]
    """Units without a row."""
    counted: bool
    """This process has a row."""
    processes: int
    soonest: float
    """Seconds until the first lease of somebody else expires."""


class Leases:
    """The leases of one process. The keeper renews them; the passes ask. Thread-safe.

    Processes of the same reconcilers, `names`, know each other by them. Those are its units too, until `follow` says
    which shards they have.
    """

    def __init__(
        self,
        home: Engine,
        names: Iterable[str],
        ttl: float,
        *,
        holder: str,
        now: Callable[[], float] = monotonic,
        busy: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.holder = holder
        self._home = home
        self._units = frozenset(names)
        all_ = repr(sorted(self._units)).encode()
        self._group = f"{PROCESS}{blake2b(all_, digest_size=6).hexdigest()}"
        self._ttl = ttl
        self._trusted = ttl - min(_MARGIN, ttl / 10)
        self._now = now
        self._busy = busy
        self._clock = clock(home.dialect.name)
        self._held: dict[str, Held] = {}
        self._soonest = ttl
        self._lock = Lock()

    def term(self, unit: str) -> int | None:
        """Return the term in which this process holds a lease, None if it does not, or may not trust that it does."""
        with self._lock:
            held = self._held.get(unit)
        return None if held is None or self._now() >= held.until else held.term

    def follow(self, units: Iterable[str]) -> None:
        """Care for these units from the next renewal on; those that are left out are given back by it."""
        with self._lock:
            self._units = frozenset(units)

    def pause(self, longest: float) -> float:
        """Return the seconds until the next renewal: at once behind the first expiry of somebody else's lease."""
        return min(longest, max(0.0, self._soonest) + _SOON)

    def register(self) -> None:
        """Make the rows of our units and of this process. Raises SqlUnavailable, NotMigrated."""
        processes = lease.c.reconciler.startswith(PROCESS)
        ended = delete(lease).where(processes, lease.c.expires_at < self._clock - _FORGOTTEN)
        old = self._clock - _KEEP
        unused = delete(lease).where(
            ~processes, lease.c.taken_at > 0, lease.c.taken_at < old, lease.c.expires_at < old
        )
        self._run(ended, unused, *self._additions(self._units))

    def renew(self, *, fit: bool = True) -> Change:
        """Renew what is held and take what is free, in one transaction.

        A process that is not fit, since it could not do the work, gives everything back and is not counted by others.

        Raises:
            SqlUnavailable: the database did not answer; every lease is given up.
        """
        began = self._now()
        with self._lock:
            before, units = dict(self._held), self._units
        try:
            held = {unit: held.term for unit, held in before.items()}
            seen, given = self._whole(held, units if fit else frozenset())
        except BaseException:
            self.forget()
            raise
        answered = self._now()
        trusted = {unit: held.term for unit, held in before.items() if answered < held.until}
        kept = {unit: Held(term, began + self._trusted) for unit, term in seen.mine.items()}
        with self._lock:
            self._held = kept
            self._soonest = seen.soonest
        return Change(
            taken=[unit for unit, held in kept.items() if trusted.get(unit) != held.term],
            lost=[unit for unit in before if unit not in kept and unit not in given],
            given=[unit for unit in given if unit in before],
        )

    def forget(self) -> None:
        """Step down from all leases, without a word to the database."""
        with self._lock:
            self._held = {}

    def release(self) -> None:
        """Give all leases back, so that others need not wait for their expiry. Raises SqlUnavailable."""
        self.forget()
        mine = lease.c.holder == self.holder
        free = update(lease).where(mine).values(holder=None, expires_at=0)
        process = lease.c.reconciler == self._group, lease.c.shard == self.holder
        self._run(delete(lease).where(*process), free)

    # --- statements ------------------------------------------------------------------------------

    def _additions(self, units: Iterable[str]) -> Iterator[Executable]:
        """Make the rows that are not there yet; another process may be faster at each."""
        process = {
            "reconciler": self._group,
            "shard": self.holder,
            "holder": self.holder,
            "expires_at": self._clock + self._ttl,
        }
        yield missing_rows(self._home.dialect.name, lease, [process])
        for some in _chunks(sorted(units)):
            rows = [{"reconciler": name, "shard": shard} for name, shard in map(_columns, some)]
            yield missing_rows(self._home.dialect.name, lease, rows)

    def _run(self, *statements: Executable) -> None:
        def run() -> None:
            with writing(self._home) as connection:
                for each in statements:
                    connection.execute(each)

        again(run)

    def _whole(
        self, held: Mapping[str, int], units: frozenset[str]
    ) -> tuple[_Seen, Collection[str]]:
        """Exchange; where rows were missing, by hand or because a shard is new, make them and take them at once."""
        seen, given = again(lambda: self._exchange(held, units))
        if not seen.missing and seen.counted:
            return seen, given
        self._run(*self._additions(seen.missing))
        seen, more = again(lambda: self._exchange(seen.mine, units))
        return seen, {*given, *more}

    # --- inside of one transaction ---------------------------------------------------------------

    def _exchange(
        self, held: Mapping[str, int], units: frozenset[str]
    ) -> tuple[_Seen, Collection[str]]:
        """Return what is there after renewing, taking and giving, and what was given."""
        with writing(self._home) as connection:
            ours = update(lease).where(lease.c.holder == self.holder)
            connection.execute(ours.values(expires_at=self._clock + self._ttl))
            if not units:  # others share the work out among themselves
                me = lease.c.reconciler == self._group, lease.c.shard == self.holder
                connection.execute(update(lease).where(*me).values(expires_at=0))
            seen = self._look(connection, units, held)
            share = ceil(len(units) / max(1, seen.processes))
            # Others take at the same moment: what they were faster at is looked for elsewhere once more.
            for _ in range(2):
                wanted = seen.free[: max(0, share - len(seen.mine))]
                if wanted:
                    self._take(connection, wanted)
                    seen = self._look(connection, units, seen.mine, wanted)
            idle = [unit for unit in seen.mine if not self._busy(unit)]
            given = [*seen.stray, *idle[: max(0, len(seen.mine) - share)]]
            self._give(connection, given)
        kept = {unit: term for unit, term in seen.mine.items() if unit not in set(given)}
        return replace(seen, mine=kept), given

    def _look(
        self,
        connection: Connection,
        units: frozenset[str],
        held: Mapping[str, int],
        taken: Collection[str] = (),
    ) -> _Seen:
        """Read the table.

        A lease that has our name, and that we stepped down from, is free: it begins a new term.
        """
        left = (lease.c.expires_at - self._clock).label("left")
        query = select(lease.c.reconciler, lease.c.shard, lease.c.holder, lease.c.term, left)
        mine: dict[str, int] = {}
        free, stray, there = [], [], set()
        processes, soonest = 0, self._ttl
        for name, shard, holder, term, seconds in connection.execute(query):
            ours, unit = holder == self.holder, f"{name}/{shard}" if shard else name
            if name == self._group:
                processes += seconds > 0
            elif ours and unit in units and (unit in taken or held.get(unit) == term):
                mine[unit] = term
            else:
                stray += [unit] if ours else []
                free += [unit] if unit in units and (ours or holder is None or seconds <= 0) else []
            there.add(unit)
            if unit in units and not ours and holder is not None and seconds > 0:
                soonest = min(soonest, seconds)
        return _Seen(
            mine,
            self._in_own_order(free),
            stray,
            sorted(units - there),
            f"{self._group}/{self.holder}" in there,
            processes,
            soonest,
        )

    def _take(self, connection: Connection, units: Sequence[str]) -> None:
        free = or_(
            lease.c.holder.is_(None),
            lease.c.holder == self.holder,
            lease.c.expires_at <= self._clock,
        )
        taken: dict[Any, Any] = {
            lease.c.holder: self.holder,
            lease.c.term: lease.c.term + 1,
            lease.c.taken_at: self._clock,
            lease.c.expires_at: self._clock + self._ttl,
        }
        for some in _chunks(units):
            connection.execute(update(lease).where(_among(some), free).values(taken))

    def _give(self, connection: Connection, units: Sequence[str]) -> None:
        ours = lease.c.holder == self.holder
        for some in _chunks(units):
            free = update(lease).where(_among(some), ours).values(holder=None, expires_at=0)
            connection.execute(free)

    def _in_own_order(self, units: Sequence[str]) -> list[str]:
        """Return units in an order that differs from process to process, so that they do not race for the same."""
        return sorted(units, key=lambda unit: blake2b(f"{self.holder} {unit}".encode()).digest())


def _columns(unit: str) -> tuple[str, str]:
    """Return a unit as the table has it: reconciler and shard."""
    name, _, shard = unit.partition("/")
    return name, shard


def _among(units: Sequence[str]) -> ColumnElement[bool]:
    return tuple_(lease.c.reconciler, lease.c.shard).in_([_columns(unit) for unit in units])


def _chunks(units: Sequence[str]) -> Iterator[Sequence[str]]:
    return (units[at : at + _ROWS] for at in range(0, len(units), _ROWS))
