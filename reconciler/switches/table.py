"""The table of switches, as statements: what was said by hand, what providers said last, what the audit has been told.

One row per flag and source. Every change is one transaction that first locks one row, the mark, so that all who write see
what those before them wrote, and each change comes into the audit once. The mark also says which process publishes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, Row, delete, insert, select, update

from qik_core.errors import BadSnapshot
from qik_core.switches import Rule
from reconciler.sql import again, clock, missing_rows, reading, writing
from reconciler.switches.provider import Rules
from reconciler.switches.rules import of_plain, plain
from reconciler.tables import switch

NOW: Final = "now"
"""The source of rows that say what is in force, as the audit was told last."""
HEALTH: Final = "health"
"""The source of rows that say how a provider is."""
_MARK: Final = "#"
_QUERY: Final = 2.0
T = TypeVar("T")
_c = switch.c


@dataclass(frozen=True, slots=True)
class Said:
    """What one source says of one flag. Times are epoch seconds by the home database's clock."""

    flag: str
    source: str
    rules: tuple[Rule, ...] = ()
    who: str = ""
    reason: str = ""
    at: float = 0.0
    """Since when it says so."""
    counted: int | None = None
    """Of rows of `NOW`: how many jobs the flag had stopped before; None: not known."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a provider is, as the process that publishes knew at a moment."""

    problem: str
    """Why its knowledge may be old, or what is not followed to the letter; empty while all is well."""
    at: float
    """When that began; while all is well, when that was noted last."""
    known: bool = True
    """It has ever given a good answer."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """The whole table at one moment."""

    now: float = 0.0
    """The home database's time."""
    said: Mapping[tuple[str, str], Said] = field(default_factory=dict)
    """By flag and source."""
    health: Mapping[str, Health] = field(default_factory=dict)
    """By provider."""
    publisher: str = ""
    """The process that publishes; empty when none does."""

    def of(self, source: str) -> dict[str, tuple[Rule, ...]]:
        """Return what one source says, by flag."""
        return {flag: each.rules for (flag, by), each in self.said.items() if by == source}

    def known(self) -> dict[str, Rules]:
        """Return what each provider says, by its name."""
        sources = {by for _, by in self.said if by != NOW} | self.health.keys()
        return {source: self.of(source) for source in sources}


class Table:
    """The table in the home database. All methods raise SqlUnavailable and NotMigrated."""

    def __init__(self, home: Engine) -> None:
        self._home = home
        self._clock = clock(home.dialect.name)

    def read(self) -> Shelf:
        """Return what the table says."""
        with reading(self._home, _QUERY) as connection:
            return self._shelf(connection)

    def change(self, work: Callable[[Writer], T]) -> T:
        """Do `work` in a transaction of its own, alone among all who change switches; it may be begun again."""

        def once() -> T:
            with writing(self._home) as connection:
                mark = {"name": _MARK, "source": _MARK, "value": "", "reason": "", "set_at": 0.0}
                connection.execute(missing_rows(self._home.dialect.name, switch, [mark]))
                locked = select(_c.name).where(_c.name == _MARK, _c.source == _MARK)
                connection.execute(locked.with_for_update())
                return work(Writer(connection, self._shelf(connection)))

        return again(once)

    def lead(self, holder: str, ttl: float) -> bool:
        """Publish from now on, for so many seconds, if nobody else does; says whether this process does."""
        free = (_c.value == holder) | (_c.value == "") | (_c.expires_at <= self._clock)
        taken = (
            update(switch)
            .where(_c.name == _MARK, _c.source == _MARK, free)
            .values(value=holder, set_at=self._clock, expires_at=self._clock + ttl)
        )
        return bool(self._write(taken)) or self._begin(taken)

    def give(self, holder: str) -> None:
        """Let another process publish."""
        ours = _c.name == _MARK, _c.source == _MARK, _c.value == holder
        self._write(update(switch).where(*ours).values(value="", expires_at=None))

    def _begin(self, taken: Any) -> bool:
        """Make the mark, where nobody has made it yet, and try once more."""
        there = select(_c.name).where(_c.name == _MARK, _c.source == _MARK)
        with reading(self._home, _QUERY) as connection:
            if connection.execute(there).first() is not None:
                return False
        self.change(lambda _: None)
        return bool(self._write(taken))

    def _write(self, statement: Any) -> int:
        def once() -> int:
            with writing(self._home) as connection:
                return int(connection.execute(statement).rowcount)

        return again(once)

    def _shelf(self, connection: Connection) -> Shelf:
        now = float(connection.execute(select(self._clock)).scalar_one())
        rows = connection.execute(select(switch)).fetchall()
        said = [_said(row) for row in rows if row.name.startswith("disable_")]
        healths = (row for row in rows if row.source == HEALTH)
        mark = next((row for row in rows if row.name == row.source == _MARK), None)
        live = mark is not None and (mark.expires_at or 0.0) > now
        return Shelf(
            now,
            {(each.flag, each.source): each for each in said},
            {row.name.removeprefix(_MARK): _health(row) for row in healths},
            mark.value if mark is not None and live else "",
        )


class Writer:
    """A transaction that changes switches."""

    def __init__(self, connection: Connection, shelf: Shelf) -> None:
        self.connection = connection
        self.before = shelf
        """What the table said when it began."""
        self._said = dict(shelf.said)

    @property
    def shelf(self) -> Shelf:
        """What the table says now."""
        before = self.before
        return Shelf(before.now, self._said, before.health, before.publisher)

    def put(self, said: Said) -> None:
        """Let a source say this of a flag, instead of what it said before."""
        times = [each.expires_at for each in said.rules]
        expires = None if None in times else max((each for each in times if each), default=None)
        value = {"rules": [plain(each) for each in said.rules], "counted": said.counted}
        self._replace(
            said.flag,
            said.source,
            there=(said.flag, said.source) in self._said,
            value=json.dumps(value),
            disabled=any(each.percent > 0 for each in said.rules),
            who=said.who[:200],
            reason=said.reason,
            set_at=said.at,
            expires_at=expires,
        )
        self._said[said.flag, said.source] = said

    def drop(self, flag: str, source: str) -> None:
        """Let a source say nothing of a flag."""
        if self._said.pop((flag, source), None) is not None:
            self.connection.execute(delete(switch).where(_c.name == flag, _c.source == source))

    def note(self, provider: str, health: Health) -> None:
        """Write down how a provider is now."""
        there, value = provider in self.before.health, json.dumps({"known": health.known})
        values = {"value": value, "reason": health.problem, "set_at": health.at}
        self._replace(_MARK + provider, HEALTH, there=there, **values)

    def forget(self, provider: str) -> None:
        """Forget how a provider was that is not asked any more."""
        ours = _c.name == _MARK + provider, _c.source == HEALTH
        self.connection.execute(delete(switch).where(*ours))

    def _replace(self, name: str, source: str, *, there: bool, **values: Any) -> None:
        if there:
            ours = _c.name == name, _c.source == source
            self.connection.execute(update(switch).where(*ours).values(values))
        else:
            self.connection.execute(insert(switch).values(name=name, source=source, **values))


def _health(row: Row[Any]) -> Health:
    return Health(row.reason, row.set_at, bool(_value(row.value).get("known")))


def _said(row: Row[Any]) -> Said:
    value = _value(row.value)
    counted = value.get("counted")
    return Said(
        flag=row.name,
        source=row.source,
        rules=_rules(row, value.get("rules")),
        who=row.who,
        reason=row.reason,
        at=row.set_at,
        counted=counted if type(counted) is int else None,
    )


def _value(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _rules(row: Row[Any], values: Any) -> tuple[Rule, ...]:
    """Return the rules of a row; where they cannot be read (a newer release may write others), what its columns say."""
    try:
        found = tuple(map(of_plain, values))
    except (TypeError, BadSnapshot):
        found = ()
    return found or (_unread(row),)


def _unread(row: Row[Any]) -> Rule:
    does = "stops everything" if row.disabled else "goes before all others and stops nothing"
    return Rule(
        percent=100.0 if row.disabled else 0.0,
        source=row.source,
        who=row.who,
        reason=f"{row.reason} (its rules in SQL cannot be read: it {does}, disable or enable it anew)".strip(),
        since=row.set_at,
        expires_at=row.expires_at,
    )
