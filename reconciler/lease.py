"""Who runs which reconciler: leases in SQL, each with a term that rises whenever it is taken.

A lease saves work and does not guard correctness: two holders would tell the same rows twice, and the locks of the jobs
make that free. So any doubt means stepping down. Trust ends by this process's own monotonic clock, counted from when
the renewal *began*: a slow answer shortens it, so that we stop before the database lets somebody else start. Expiry is
judged by the database's clock alone.

Every process also has a row of its own (named `#` and a digest of what it could run), so that all know how many they
are: nobody takes more than a fair share, and who has more gives back what is idle. Work spreads when a process joins.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil
from threading import Lock
from time import monotonic
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Engine,
    Executable,
    and_,
    delete,
    exc,
    false,
    insert,
    or_,
    select,
    update,
)

from reconciler.sql import again, clock, reading, writing
from reconciler.tables import lease

PROCESS: Final = "#"
"""Begins the names of rows that stand for a process; names of reconcilers begin with a letter."""
_FORGOTTEN: Final = 3_600.0
"""Seconds after which the row of a process that ended without a word is removed."""
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
    """What one renewal changed."""

    taken: Sequence[str]
    """Held now and not trusted just before: what was asked of them meanwhile was not done."""
    lost: Sequence[str]
    given: Sequence[str] = ()
    """Given back, because others have less."""


class Leases:
    """The leases of one process. The keeper renews them; the passes ask. Thread-safe."""

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
        self._names = sorted(names)
        self._group = f"{PROCESS}{blake2b(repr(self._names).encode(), digest_size=6).hexdigest()}"
        self._ttl = ttl
        self._trusted = ttl - min(_MARGIN, ttl / 10)
        self._now = now
        self._busy = busy
        self._clock = clock(home.dialect.name)
        self._held: dict[str, Held] = {}
        self._lock = Lock()

    def term(self, name: str) -> int | None:
        """Return the term in which this process holds a lease, None if it does not, or may not trust that it does."""
        with self._lock:
            held = self._held.get(name)
        return None if held is None or self._now() >= held.until else held.term

    def register(self) -> None:
        """Make the rows of our reconcilers and of this process. Raises SqlUnavailable, NotMigrated."""
        gone = lease.c.reconciler.startswith(PROCESS), lease.c.expires_at < self._clock - _FORGOTTEN
        self._run(delete(lease).where(*gone))
        for name, shard in [(self._group, self.holder), *((name, "") for name in self._names)]:
            there = select(lease.c.term).where(lease.c.reconciler == name, lease.c.shard == shard)
            with reading(self._home, self._ttl) as connection:
                if connection.execute(there).first() is not None:
                    continue
            try:
                until = self._clock + self._ttl if shard else 0
                row = {"reconciler": name, "shard": shard, "expires_at": until}
                self._run(insert(lease).values(row))
            except exc.IntegrityError:  # another process was faster
                continue

    def renew(self) -> Change:
        """Renew what is held and take what is free, in one transaction.

        Raises:
            SqlUnavailable: the database did not answer; every lease is given up.
        """
        began = self._now()
        with self._lock:
            before = dict(self._held)
        try:
            terms, given = again(
                lambda: self._exchange({name: held.term for name, held in before.items()})
            )
        except BaseException:
            self.forget()
            raise
        answered = self._now()
        trusted = {name: held.term for name, held in before.items() if answered < held.until}
        kept = {name: Held(term, began + self._trusted) for name, term in terms.items()}
        with self._lock:
            self._held = kept
        return Change(
            taken=[name for name, held in kept.items() if trusted.get(name) != held.term],
            lost=[name for name in before if name not in kept and name not in given],
            given=given,
        )

    def forget(self, name: str | None = None) -> None:
        """Step down from one lease, or from all, without a word to the database."""
        with self._lock:
            if name is None:
                self._held = {}
            else:
                self._held.pop(name, None)

    def release(self) -> None:
        """Give all leases back, so that others need not wait for their expiry. Raises SqlUnavailable."""
        self.forget()
        free = update(lease).where(lease.c.holder == self.holder).values(holder=None, expires_at=0)
        mine = lease.c.reconciler == self._group, lease.c.shard == self.holder
        self._run(free, delete(lease).where(*mine))

    def _run(self, *statements: Executable) -> None:
        def run() -> None:
            with writing(self._home) as connection:
                for each in statements:
                    connection.execute(each)

        again(run)

    # --- inside of one transaction ---------------------------------------------------------------

    def _exchange(self, held: dict[str, int]) -> tuple[dict[str, int], list[str]]:
        """Return name → term of what is ours after renewing, taking and giving, and what was given."""
        with writing(self._home) as connection:
            self._renew(connection, held)
            mine, free, processes = self._look(connection, held)
            share = ceil(len(self._names) / max(1, processes))
            # Others take at the same moment: what they were faster at is looked for elsewhere once more.
            for _ in range(2):
                wanted = free[: max(0, share - len(mine))]
                if wanted:
                    self._take(connection, wanted)
                    mine, free, _ = self._look(connection, mine, wanted)
            given = [name for name in mine if not self._busy(name)][: max(0, len(mine) - share)]
            if given:
                self._give(connection, given)
        return {name: term for name, term in mine.items() if name not in given}, given

    def _renew(self, connection: Connection, held: dict[str, int]) -> None:
        ours = [
            and_(lease.c.reconciler == name, lease.c.term == term) for name, term in held.items()
        ]
        alive = lease.c.reconciler == self._group
        connection.execute(
            update(lease)
            .where(
                or_(
                    and_(lease.c.holder == self.holder, or_(*ours)) if ours else false(),
                    and_(alive, lease.c.shard == self.holder),
                )
            )
            .values(expires_at=self._clock + self._ttl)
        )

    def _look(
        self, connection: Connection, held: dict[str, int], taken: Collection[str] = ()
    ) -> tuple[dict[str, int], list[str], int]:
        """Return name → term of what is ours, what is free, and how many processes there are.

        A lease that has our name, and that we stepped down from, is free: it begins a new term.
        """
        live = (lease.c.expires_at > self._clock).label("live")
        columns = (lease.c.reconciler, lease.c.holder, lease.c.term, live)
        query = select(*columns).where(lease.c.reconciler.in_([self._group, *self._names]))
        mine: dict[str, int] = {}
        free: list[str] = []
        processes = 0
        for name, holder, term, is_live in connection.execute(query):
            ours = holder == self.holder
            if name == self._group:
                processes += bool(is_live)
            elif ours and (name in taken or held.get(name) == term):
                mine[name] = term
            elif holder is None or ours or not is_live:
                free.append(name)
        return mine, self._in_own_order(free), processes

    def _take(self, connection: Connection, names: Sequence[str]) -> None:
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
        connection.execute(update(lease).where(lease.c.reconciler.in_(names), free).values(taken))

    def _give(self, connection: Connection, names: Sequence[str]) -> None:
        ours = lease.c.reconciler.in_(names), lease.c.holder == self.holder
        connection.execute(update(lease).where(*ours).values(holder=None, expires_at=0))

    def _in_own_order(self, names: Sequence[str]) -> list[str]:
        """Return names in an order that differs from process to process, so that they do not race for the same."""
        return sorted(names, key=lambda name: blake2b(f"{self.holder} {name}".encode()).digest())
