"""What is known of one row: by its own database, by our tables, by Redis. Reads and changes nothing.

All are asked at once and each by a deadline, so that the answer of those that can be reached comes in time. The key of
the lock follows from the key of the row where its columns are the job's arguments; else the row's database says it first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import Engine, Row, select

from qik_core.errors import QikError, StoreUnavailable
from qik_core.passes import LockState, Passes, Trace
from qik_core.switches import Snapshot, Stop
from reconciler.asking import Asked
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable
from reconciler.inverse import Key
from reconciler.ledger import codes
from reconciler.onerow import OfRow, digest_of_key, of_row
from reconciler.pressure import Gates
from reconciler.sql import clock, reading
from reconciler.switches.publishing import sound
from reconciler.switches.rules import merged
from reconciler.switches.stopping import stop_of
from reconciler.switches.table import Table
from reconciler.tables import lease, passes, row_state
from reconciler.words import cause

ANSWER: Final = 2.2
"""Seconds for all questions together, unless the caller says otherwise."""
LAST: Final = 5
"""Passes of the ledger that are shown."""
_QUERY: Final = 2.0
_SEARCH: Final = 1.5
"""Seconds at most for which Redis' lists are searched for the job."""
_SHARE: Final = 0.6
"""Of the time that is left: a search that ends by itself says how far it came."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ended:
    """A pass of the ledger. Times are epoch seconds."""

    outcome: str
    reason: str
    started_at: float
    ended_at: float
    scanned: int
    codes: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfHome:
    """What our own tables say of a reconciler. Times are epoch seconds by the home database's clock."""

    now: float
    holder: str | None = None
    """The process that runs it; None when nobody does."""
    running_since: float | None = None
    """When the pass under way began."""
    passes: Sequence[Ended] = ()
    """The last ones, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfState:
    """What is kept of a row whose job did not end well. Times are epoch seconds by the home database's clock."""

    state: str
    reason: str
    error: str
    next_at: float
    failures: int
    crashes: int
    no_progress: int
    last_at: float
    last_jid: str


@dataclass(slots=True)
class Known:
    """Everything that was found out. None stands for what could not be asked; `errors` say why."""

    definition: Definition
    key: Key
    row: OfRow | None = None
    home: OfHome | None = None
    state: OfState | None = None
    trace: Trace | None = None
    broken: str = ""
    """How the select itself fails; empty when it does not."""
    gate: str = ""
    """Why a pass would tell nothing now; empty when it would."""
    stop: Stop | None = None
    """The kill switch that keeps the row back."""
    errors: list[Exception] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """The key of the lock; empty where it cannot be known."""
        if self.row is not None and self.row.digest:
            return self.row.digest
        return digest_of_key(self.definition, self.key)

    @property
    def name(self) -> str:
        """The key, for people."""
        return ", ".join(map(str, self.key))

    @property
    def told(self) -> bool:
        """A job for the row exists, so that no pass is needed."""
        return self.trace is not None and self.trace.state is not LockState.ABSENT

    @property
    def last(self) -> Ended | None:
        """The last pass of its reconciler."""
        return self.home.passes[0] if self.home is not None and self.home.passes else None


@dataclass(frozen=True, slots=True)
class Means:
    """Who is asked; None: Redis is not named."""

    engines: Engines
    seam: Passes | None


def inquire(definition: Definition, key: Key, means: Means, *, patience: float = ANSWER) -> Known:
    """Find out everything about a row within so many seconds. Nothing of this package's is raised."""
    return _Inquiry(definition, key, means, time.monotonic() + patience).ask()


class _Inquiry:
    """The questions about one row."""

    def __init__(self, definition: Definition, key: Key, means: Means, until: float) -> None:
        self.definition = definition
        self.means = means
        self.until = until
        self.known = Known(definition, key)
        self.silent: set[str] = set()
        """Who has not answered in time: said once, however much they were asked."""

    def ask(self) -> Known:
        known, early = self.known, digest_of_key(self.definition, self.known.key)
        row = self._later(self._row)
        home = self._later(lambda: of_home(self.means.engines.home(), self.definition))
        gate = self._later(self._gate)
        switches = self._later(self._switches)
        of_key = self._of_key(early) if early else None
        known.row = self._answer(row, SqlUnavailable, f"the database of {self.definition.unit}")
        if row.error is not None and not isinstance(row.error, QikError):
            known.errors.remove(row.error)
            known.broken = cause(row.error)
        if (
            known.digest != early
        ):  # more than the key decides it, or the row spells its key in another way
            of_key = self._of_key(known.digest)
        known.home = self._answer(home, SqlUnavailable, "our tables")
        if of_key is not None:
            state, trace = of_key
            known.state = self._answer(state, SqlUnavailable, "our tables")
            known.trace = self._answer(trace, StoreUnavailable, "Redis")
        known.gate = self._answer(gate, StoreUnavailable, "Redis") or ""
        known.stop = self._stop(self._answer(switches, SqlUnavailable, "our tables"))
        return known

    def _switches(self) -> Snapshot:
        """Return the kill switches that processes go by; where Redis does not say, those that SQL knows."""
        published = Snapshot() if self.means.seam is None else self.means.seam.switches()
        if published.version:
            return published
        shelf = Table(self.means.engines.home()).read()
        return Snapshot(rules=merged(sound(shelf), shelf.now))

    def _stop(self, switches: Snapshot | None) -> Stop | None:
        row, known = self.known.row, self.known
        if switches is None:
            return None
        args, tenant = (None, None) if row is None else (row.args, row.tenant)
        return stop_of(switches, known.definition, known.digest, args, tenant, now=time.time())

    def _of_key(self, digest: str) -> tuple[Asked[OfState | None], Asked[Trace | None]]:
        """Ask what needs to know the key of the lock, as soon as that is known."""
        state = self._later(lambda: of_state(self.means.engines, self.definition, digest))
        return state, self._later(lambda: self._trace(digest))

    def _later(self, ask: Callable[[], T]) -> Asked[T]:
        return Asked(ask, self.until)

    def _answer(self, asked: Asked[T], late: Callable[[str], Exception], whom: str) -> T | None:
        answer = asked.answer(late, whom)
        said = whom in self.silent or str(asked.error) in map(str, self.known.errors)
        if asked.error is not None and not said:
            self.known.errors.append(asked.error)
        if asked.late:
            self.silent.add(whom)
        return answer

    def _row(self) -> OfRow:
        told = None if self.means.seam is None else self.means.seam.glance
        return of_row(self.means.engines.of(self.definition), self.definition, self.known.key, told)

    def _gate(self) -> str:
        if self.means.seam is None:
            return ""
        room, reason = Gates(self.means.seam).room(self.definition)
        return reason if room == 0 else ""

    def _trace(self, digest: str) -> Trace | None:
        if self.means.seam is None:
            return None
        patience = min(_SEARCH, _SHARE * (self.until - time.monotonic()))
        return self.means.seam.trace(digest, self.definition.queues, patience=patience)


# --- our tables ---------------------------------------------------------------------------------


def of_home(home: Engine, definition: Definition) -> OfHome:
    """Ask our own tables for a reconciler.

    Raises:
        SqlUnavailable: the home database does not answer.
        NotMigrated: it has no tables of ours.
    """
    ours = lease.c.reconciler == definition.name, lease.c.shard == definition.shard
    mine = passes.c.reconciler == definition.name, passes.c.shard == definition.shard
    newest = select(passes).where(*mine).order_by(passes.c.id.desc()).limit(LAST + 1)
    with reading(home, _QUERY) as connection:
        now = float(connection.execute(select(clock(home.dialect.name))).scalar_one())
        held = connection.execute(select(lease).where(*ours)).first()
        rows = connection.execute(newest).fetchall()
    live = held is not None and held.holder is not None and held.expires_at > now
    under_way = bool(rows) and rows[0].outcome is None and live
    ended = [_ended(each) for each in rows if each.outcome is not None]
    return OfHome(
        now=now,
        holder=held.holder if held is not None and live else None,
        running_since=rows[0].started_at if under_way else None,
        passes=ended[:LAST],
    )


def _ended(row: Row[Any]) -> Ended:
    return Ended(
        row.outcome,
        row.reason or "",
        row.started_at,
        row.ended_at,
        row.scanned,
        dict(codes(row.codes)),
    )


def of_state(engines: Engines, definition: Definition, digest: str) -> OfState | None:
    """Ask our own tables whether a row is held back; None when it is not.

    Raises:
        SqlUnavailable: the home database does not answer.
        NotMigrated: it has no tables of ours.
    """
    asked = select(row_state).where(
        row_state.c.job_class == definition.facts.name, row_state.c.key_digest == digest
    )
    with reading(engines.home(), _QUERY) as connection:
        row = connection.execute(asked).first()
    if row is None:
        return None
    return OfState(
        state=row.state,
        reason=row.reason,
        error=row.error or "",
        next_at=row.next_at,
        failures=row.failures,
        crashes=row.crashes,
        no_progress=row.no_progress,
        last_at=row.last_at,
        last_jid=row.last_jid,
    )
