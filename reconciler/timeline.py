"""What happened lately, in one list by time: switches, flushes, losses, leases, quarantines, rebuilds, releases, bad passes.

From SQL alone: it needs neither Redis nor application code, which may be what is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Row,
    cast,
    func,
    literal_column,
    select,
)

from reconciler import audit
from reconciler.audit import Action, Entry
from reconciler.losses import places
from reconciler.report import Outcome
from reconciler.sql import read_clock, reading
from reconciler.states import Hold, Reason
from reconciler.tables import passes, row_state
from reconciler.words import said, span

MOST: Final = 500
"""Events that are shown, the newest, unless another number is asked for."""
_QUERY: Final = 2.0
_READ: Final = 5_000
_APART: Final = 900.0
"""Seconds without one after which the next bad pass of a reconciler is an event of its own."""
_BAD: Final = (Outcome.FAILED, Outcome.GATED, Outcome.RESTARTED)
_MINUTE: Final[ColumnElement[Any]] = literal_column("60")


class What(StrEnum):
    """What an event is about."""

    SWITCH = "switch"
    FLUSH = "flush"
    LOSS = "loss"
    LEASE = "lease"
    QUARANTINE = "quarantine"
    REBUILD = "rebuild"
    DEPLOY = "deploy"
    PASS = "pass"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. Times are epoch seconds by the home database's clock."""

    at: float
    what: What
    subject: str
    text: str
    """For people."""
    who: str = ""
    until: float | None = None
    """When it happened last, for what happened again and again."""
    times: int = 1
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {**asdict(self), "what": str(self.what), "details": dict(self.details)}


@dataclass(frozen=True, slots=True)
class Timeline:
    """The events since a moment, oldest first."""

    since: float
    now: float
    events: tuple[Event, ...]
    left_out: int
    """How many older ones are not shown."""


def timeline(home: Engine, seconds: float, most: int = MOST) -> Timeline:
    """Return what happened in the last `seconds`: the newest `most` events, oldest first.

    Raises:
        SqlUnavailable: the home database does not answer.
        NotMigrated: it has no tables of ours.
    """
    now = read_clock(home)
    since = now - seconds
    found = [_event(each) for each in audit.read(home, since, most=_READ)]
    with reading(home, _QUERY) as connection:
        found += _bad_passes(connection, since)
        found += _quarantined(connection, since)
    found.sort(key=lambda event: event.at)
    return Timeline(since, now, tuple(found[-most:]), max(0, len(found) - most))


# --- passes and rows -----------------------------------------------------------------------------


def _bad_passes(connection: Connection, since: float) -> Iterator[Event]:
    """Yield passes that did not end well; those of one reconciler that ended alike, one after the other, as one event."""
    bad = passes.c.outcome.in_([str(each) for each in _BAD])
    query = select(passes).where(passes.c.started_at >= since, bad)
    newest = connection.execute(query.order_by(passes.c.id.desc()).limit(_READ)).fetchall()
    runs: dict[tuple[str, str, str], list[Row[Any]]] = {}
    for row in reversed(newest):
        run = runs.setdefault((row.reconciler, row.shard, row.outcome), [])
        if run and row.started_at - run[-1].started_at > _APART:
            yield _of_passes(run)
            run.clear()
        run.append(row)
    yield from map(_of_passes, runs.values())


def _of_passes(run: Sequence[Row[Any]]) -> Event:
    first, last = run[0], run[-1]
    unit = f"{last.reconciler}/{last.shard}" if last.shard else last.reconciler
    times = (
        f" {len(run):,} times in {span(last.ended_at - first.started_at)}" if len(run) > 1 else ""
    )
    return Event(
        at=first.started_at,
        what=What.PASS,
        subject=unit,
        text=f"pass {last.outcome}{times}: {last.reason or 'no reason given'}",
        who=last.holder,
        until=last.ended_at if len(run) > 1 else None,
        times=len(run),
        details={"outcome": last.outcome, "job": last.job_class},
    )


def _quarantined(connection: Connection, since: float) -> Iterator[Event]:
    """Yield rows whose jobs ended badly too often, those of one class and minute together."""
    state = row_state.c
    minute = cast(state.last_at / _MINUTE, BigInteger)
    columns = state.job_class, state.shard, state.reason, minute
    mine = (
        state.state == str(Hold.QUARANTINED),
        state.reason != str(Reason.OPERATOR),  # those are in the audit
        state.last_at >= since,
    )
    counted = func.count().label("rows"), func.min(state.last_at).label("at")
    sample = func.min(state.key).label("key"), func.max(state.error).label("error")
    query = select(*columns, *counted, *sample).where(*mine).group_by(*columns)
    for row in connection.execute(query.limit(_READ)):
        unit = f"{row.job_class}/{row.shard}" if row.shard else row.job_class
        rows = f"row {row.key}" if row.rows == 1 else f"{row.rows:,} rows"
        error = f": {said(row.error)}" if row.error else ""
        yield Event(
            at=row.at,
            what=What.QUARANTINE,
            subject=unit,
            text=f"{rows} quarantined ({row.reason}){error}",
            times=row.rows,
            details={"reason": row.reason, "rows": row.rows, "key": row.key},
        )


# --- the audit -----------------------------------------------------------------------------------


def _event(entry: Entry) -> Event:
    what, text = _TEXTS.get(entry.action, (What.OTHER, _plain))
    return Event(
        at=entry.at,
        what=what,
        subject=entry.subject,
        text=text(entry),
        who=entry.who,
        details={"action": entry.action, **entry.details},
    )


def _plain(entry: Entry) -> str:
    return _because(entry.action.replace("_", " "), entry)


def _because(text: str, entry: Entry) -> str:
    return f"{text}: {entry.reason}" if entry.reason else text


def _switched(entry: Entry) -> str:
    dropped, on_for = entry.details.get("dropped"), entry.details.get("on_for")
    was = "" if on_for is None else f" after {span(on_for)}"
    if dropped is not None:
        was += f", {dropped:,} jobs were dropped or refused"
    return _because(f"{entry.action}{was}", entry)


def _flushed(entry: Entry) -> str:
    known = entry.details
    if known.get("state") == "begun":
        return f"{_because('flush began', entry)}; {known.get('jobs', 0):,} jobs"
    if known.get("state") != "ended":
        return _plain(entry)
    counts = {"lost": known.get("lost", 0), "exported": known.get("exported", 0)}
    more = "".join(f", {count:,} {name}" for name, count in counts.items() if count)
    removed = f"{known.get('removed', 0):,} jobs removed in {span(known.get('seconds', 0.0))}"
    return f"{_because('flushed', entry)}; {removed}{more}"


def _rebuilt(entry: Entry) -> str:
    rate, state = entry.details.get("rate"), entry.details.get("state", "")
    speed = "as fast as it goes" if rate is None else f"at {rate:g} rows/s"
    if state == "began":
        return _because(f"began {speed}", entry)
    told = entry.details.get("codes", {}).get("enqueued", 0)
    took = f"{state.replace('_', ' ')} after {span(entry.details.get('seconds', 0.0))}, {told:,} rows told"
    overridden: Iterable[str] = entry.details.get("overridden", ())
    return _because(took + "".join(f", {each} overridden" for each in overridden), entry)


def _lost(entry: Entry) -> str:
    gone: Mapping[str, Mapping[str, int]] = entry.details.get("unreconciled", {})
    if not gone:
        return entry.reason
    named = ", ".join(
        f"{name or 'not ours'} {places(where)}" for name, where in sorted(gone.items())
    )
    return f"{entry.reason}; no reconciler tells again: {named}"


def _leased(entry: Entry) -> str:
    term = entry.details.get("term")
    return "lease taken" if term is None else f"lease taken, term {term}"


def _released(entry: Entry) -> str:
    rows = entry.details.get("rows", 1)
    done = "quarantined by hand" if entry.action == "quarantine.add" else "released"
    return _because(f"{rows:,} rows {done}" if rows != 1 else done, entry)


_TEXTS: Final[Mapping[str, tuple[What, Callable[[Entry], str]]]] = {
    Action.DISABLED: (What.SWITCH, _switched),
    Action.ENABLED: (What.SWITCH, _switched),
    Action.EXPIRED: (What.SWITCH, _switched),
    Action.FLUSHED: (What.FLUSH, _flushed),
    Action.EXPORTED: (What.FLUSH, _plain),
    Action.IMPORTED: (What.FLUSH, _plain),
    Action.REBUILT: (What.REBUILD, _rebuilt),
    Action.REDIS_LOST: (What.LOSS, _lost),
    Action.LEASE_TAKEN: (What.LEASE, _leased),
    Action.QUARANTINED: (What.QUARANTINE, _released),
    Action.RELEASED: (What.QUARANTINE, _released),
    Action.DEPLOYED: (What.DEPLOY, _plain),
    "quarantine.add": (What.QUARANTINE, _released),
    "quarantine.release": (What.QUARANTINE, _released),
}
"""By action: what it is about, and how people are told."""
