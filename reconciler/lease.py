"""Who runs which reconciler: leases in SQL, each with a term that rises whenever it is taken.

A lease saves work and does not guard correctness: two holders would tell the same rows twice, and the locks of the jobs
make that free. So any doubt means stepping down. Trust ends by this process's own monotonic clock, counted from when
the renewal *began*: a slow answer shortens it, so that we stop before the database lets somebody else start. Expiry is
judged by the database's clock alone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any, Final

from sqlalchemy import Engine, and_, exc, insert, or_, select, update

from reconciler.sql import clock, reading, writing
from reconciler.tables import lease

_MARGIN: Final = 1.0
"""Seconds before its expiry at which a lease is not trusted any more; a tenth of a short lease."""


def identity() -> str:
    """Return a name for this start of this process: host names and process ids come back, these never do."""
    return f"{socket.gethostname()[:100]}:{os.getpid()}:{os.urandom(4).hex()}"


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
    ) -> None:
        self.holder = holder
        self._home = home
        self._names = sorted(names)
        self._ttl = ttl
        self._trusted = ttl - min(_MARGIN, ttl / 10)
        self._now = now
        self._clock = clock(home.dialect.name)
        self._held: dict[str, Held] = {}
        self._lock = Lock()

    def term(self, name: str) -> int | None:
        """Return the term in which this process holds a lease, None if it does not, or may not trust that it does."""
        with self._lock:
            held = self._held.get(name)
        return None if held is None or self._now() >= held.until else held.term

    def register(self) -> None:
        """Make the rows of our reconcilers. Raises SqlUnavailable, NotMigrated."""
        for name in self._names:
            there = select(lease.c.term).where(lease.c.reconciler == name, lease.c.shard == "")
            with reading(self._home, self._ttl) as connection:
                if connection.execute(there).first() is not None:
                    continue
            try:
                with writing(self._home) as connection:
                    connection.execute(insert(lease).values(reconciler=name, shard=""))
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
            terms = self._exchange({name: held.term for name, held in before.items()})
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
            lost=[name for name in before if name not in kept],
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
        with writing(self._home) as connection:
            connection.execute(free)

    def _exchange(self, held: dict[str, int]) -> dict[str, int]:
        """Return name → term of what is ours after renewing and taking."""
        ours = lease.c.holder == self.holder
        until = self._clock + self._ttl
        free = [name for name in self._names if name not in held]
        with writing(self._home) as connection:
            if held:
                same = or_(
                    *(
                        and_(lease.c.reconciler == name, lease.c.term == term)
                        for name, term in held.items()
                    )
                )
                connection.execute(update(lease).where(ours, same).values(expires_at=until))
            if free:
                open_ = or_(lease.c.holder.is_(None), ours, lease.c.expires_at <= self._clock)
                taken: dict[Any, Any] = {
                    lease.c.holder: self.holder,
                    lease.c.term: lease.c.term + 1,
                    lease.c.taken_at: self._clock,
                    lease.c.expires_at: until,
                }
                connection.execute(
                    update(lease).where(lease.c.reconciler.in_(free), open_).values(taken)
                )
            rows = connection.execute(
                select(lease.c.reconciler, lease.c.term).where(
                    ours, lease.c.reconciler.in_(self._names)
                )
            ).all()
        found = {str(name): int(term) for name, term in rows}
        return {name: term for name, term in found.items() if held.get(name, term) == term}
