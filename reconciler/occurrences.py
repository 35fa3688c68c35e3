"""Work that follows from the time: every slot of a schedule that has passed wants a job, until a row says it is done.

    class DailyReport(Occurrences, schedule="0 6 * * *", tz="Europe/Berlin", catchup=timedelta(days=7)):
        done = derive(BuildReport, select(Report.slot).where(Report.kind == "daily"))

Expected slots minus existing rows are pending, so nothing is missed while no process runs: whoever runs next finds what
is missing, as far back as the catch-up window reaches. A slot is a moment; it travels in UTC and is the job's key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, ClassVar, Final, Literal, Required, TypeAlias, TypedDict, Unpack
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, Select, select

from reconciler.columns import python_type
from reconciler.cron import Overlap, Slots, crontab
from reconciler.definition import Definition, check_names, define
from reconciler.errors import Rule, broken
from reconciler.inverse import Key
from reconciler.moments import epoch, moment
from reconciler.options import Backpressure, Duration, Freshness, Quarantine, seconds
from reconciler.question import Question, Reading
from reconciler.registry import register
from reconciler.shape import Shape
from reconciler.source import Position, Source
from reconciler.sql import again, reading

MOST: Final = 100_000
"""Slots that a catch-up window may hold."""
_CHUNK: Final = 1_000
"""Slots that one statement is asked for."""
_EVERY: Final = 60.0
_CATCHUP: Final = 7 * 86_400.0

Told: TypeAlias = Callable[[Sequence[bytes]], Sequence[bool]]
Slot: TypeAlias = datetime | int


class OccurrenceOptions(TypedDict, total=False):
    """The class keywords of occurrences."""

    schedule: Required[str]
    """When slots are, as five crontab fields."""
    tz: str
    """The zone of the schedule, as the IANA names it. UTC by default."""
    catchup: Duration
    """How long after its time a slot is expected. 7 days by default."""
    overlap: Literal["all", "one", "skip"]
    """Which slots are told while earlier ones are not done: all of them (by default), the earliest, or the latest."""
    since: datetime
    """Slots up to then are not expected. Without it, a new class makes up its catch-up window."""
    every: Duration
    """Between the beginnings of two passes; a slot is told so long after its time at most. A minute by default."""
    jitter: Duration
    database: str
    queue: str
    name: str
    budget: Duration
    statement_timeout: Duration
    backpressure: Backpressure
    quarantine: Quarantine
    freshness: Freshness
    recheck: bool
    expect_progress: bool
    edges: bool
    shadow: bool
    on_unknown: Literal["run", "stop"]


_OWN: Final = ("schedule", "tz", "catchup", "overlap", "since")


class Occurrences:
    """The base of what follows a schedule. `done = derive(Job, select(Row.slot))` says which slots are done.

    Raises:
        DefinitionError: at definition; names the class, the rule and the remedy.
    """

    definition: ClassVar[Definition]

    def __init_subclass__(cls, **options: Unpack[OccurrenceOptions]) -> None:
        super().__init_subclass__()
        slots = _slots(cls.__qualname__, options)
        rest = {name: value for name, value in options.items() if name not in _OWN}
        cls.definition = define(cls, {"every": _EVERY, **rest}, slots)
        register(cls.definition)


# --- the checks -------------------------------------------------------------------------------


def _slots(owner: str, given: Mapping[str, Any]) -> Slots:
    check_names(owner, "option", given, OccurrenceOptions.__annotations__, Rule.SLOTS)
    times = crontab(owner, "schedule", given.get("schedule"))
    catchup = seconds(owner, "catchup", given.get("catchup", _CATCHUP), Rule.SLOTS)
    if not 0 < catchup <= MOST * times.shortest:
        raise _broken(
            owner,
            f"catchup is {catchup:g} s, and the schedule has a slot every {times.shortest:g} s",
            f"Use more than 0 and at most {MOST:,} slots: catchup=timedelta(days=7)",
        )
    overlap = given.get("overlap", "all")
    if overlap not in list(Overlap):
        raise _broken(owner, f"overlap is {overlap!r:.80}", f"There are: {', '.join(Overlap)}")
    return Slots(
        times=times,
        zone=_zone(owner, given.get("tz", "UTC")),
        catchup=catchup,
        overlap=Overlap(overlap),
        since=_since(owner, given.get("since")),
    )


def _zone(owner: str, name: object) -> tzinfo:
    try:
        return UTC if name == "UTC" else ZoneInfo(str(name))
    except (ValueError, OSError, KeyError):  # not a name, not a file of zones, not known
        raise _broken(
            owner,
            f"no time zone is called {name!r:.80}",
            "Use a name of the IANA's, as tz='Europe/Berlin'; where the system has none, install tzdata",
        ) from None


def _since(owner: str, since: object) -> datetime | None:
    if since is None or (isinstance(since, datetime) and since.utcoffset() is not None):
        return since
    raise _broken(
        owner,
        f"since is {since!r:.80}",
        "Use a datetime with a time zone: since=datetime(2026, 1, 1, tzinfo=UTC)",
    )


def _broken(owner: str, what: str, remedy: str) -> Exception:
    return broken(owner, Rule.SLOTS, what, remedy)


# --- what is pending --------------------------------------------------------------------------


def source_of(
    definition: Definition, engine: Engine, now: float, *, held: int = 0, told: Told | None = None
) -> Source | OccurrenceSource:
    """Return what a pass reads: rows, or slots. `now` is the database's time when the pass began, in epoch seconds.

    `held` is how many rows are held back at most. `told` says of digests which of them are told.

    Raises:
        DefinitionError: this database cannot go on from a page in this order.
    """
    if definition.shape.slots is None:
        return Source(definition, engine, now, held)
    return OccurrenceSource(definition, engine, now, told)


class OccurrenceSource:
    """The slots that are pending, earliest first; each is a row of one column, as `perform` takes it.

    `told` is asked with `overlap="skip"` alone; without it no slot counts as under way.
    """

    def __init__(
        self, definition: Definition, engine: Engine, now: float, told: Told | None = None
    ) -> None:
        self._definition = definition
        self._engine = engine
        self._now = now
        self._told = told
        self._question = SlotQuestion(definition.shape, engine.dialect.name)
        self._rows: list[tuple[Slot]] | None = None

    def read(self, after: Position | None, limit: int) -> Sequence[tuple[Any, ...]]:
        """Return up to `limit` slots behind a position; fewer mean that there are no more.

        Raises:
            StatementTimeout: what is done could not be read in time.
            SqlUnavailable: the database cannot be reached.
            SQLAlchemyError: the statement itself cannot work.
        """
        if self._rows is None:
            self._rows = self._wanted(self._missing())
        behind = [row for row in self._rows if after is None or row > after]
        return behind[:limit]

    @property
    def first(self) -> Select[Any]:
        """The statement that reads what is done in the window, for those who explain it."""
        window = self._expected() or [int(self._now)]
        return self._question.done(window[0], window[-1])

    def position(self, row: Sequence[Any]) -> Position:
        """Return the position of a slot."""
        return (row[0],)

    def _expected(self) -> list[int]:
        slots = self._definition.shape.slots
        return [] if slots is None else slots.expected(self._now)

    def _missing(self) -> list[int]:
        expected, missing = self._expected(), list[int]()
        for chunk in _chunks(expected):
            done = again(lambda chunk=chunk: self._done(chunk))  # type: ignore[misc]
            missing += [each for each in chunk if each not in done]
        return missing

    def _done(self, slots: Sequence[int]) -> set[int]:
        with reading(self._engine, self._definition.statement_timeout) as connection:
            return self._question.read(connection, self._question.done(slots[0], slots[-1]))

    def _wanted(self, missing: Sequence[int]) -> list[tuple[Slot]]:
        """Return the slots that `overlap` lets be told: those under way are among them, to be found told."""
        slots = self._definition.shape.slots
        rows = [(self._question.slot(each),) for each in missing]
        if slots is None or slots.overlap is Overlap.ALL:
            return rows
        if slots.overlap is Overlap.ONE:
            return rows[:1]
        return self._under_way(rows) or rows[-1:]

    def _under_way(self, rows: Sequence[tuple[Slot]]) -> list[tuple[Slot]]:
        if self._told is None:
            return []
        found: list[tuple[Slot]] = []
        for chunk in _chunks(rows):
            digests = self._definition.job.definition.digests(self._definition.arguments(chunk))
            told = self._told(digests)
            found += [row for row, each in zip(chunk, told, strict=True) if each]
        return found


class SlotQuestion(Question):
    """Which slots are done? Asked of the database, compared as epoch seconds whatever the type of the column."""

    def __init__(self, shape: Shape, dialect: str) -> None:
        super().__init__(shape, dialect)
        self._dialect = dialect
        self._slot = next(iter(shape.statement.subquery("qik__done").c))
        self._distinct = select(epoch(self._slot)).distinct()
        self._whole = issubclass(python_type(self._slot) or datetime, int)

    def pending(self, reading: Reading, keys: Sequence[Key]) -> list[bool | None]:
        """Say of each slot whether it is pending. `reading` opens a connection in a transaction."""
        found: list[bool | None] = []
        for chunk in _chunks(keys):
            slots = [self.seconds(key[0]) for key in chunk]
            with reading() as connection:
                done = self.among(connection, slots)
            found += [each not in done for each in slots]
        return found

    def row(self, connection: Connection, key: Key) -> tuple[Slot] | None:
        """Return a slot as a pass reads it, None if it is done."""
        slot = self.seconds(key[0])
        return None if self.among(connection, [slot]) else (self.slot(slot),)

    def among(self, connection: Connection, slots: Sequence[int]) -> set[int]:
        """Return those of the slots, in epoch seconds, that are done."""
        asked = self._slot.in_([moment(self._slot, each, self._dialect) for each in slots])
        return self.read(connection, self._distinct.where(asked))

    def done(self, first: int, last: int) -> Select[Any]:
        """Return the statement of the slots that are done between two, as epoch seconds."""
        bounds = (moment(self._slot, each, self._dialect) for each in (first, last))
        return self._distinct.where(self._slot.between(*bounds))

    @staticmethod
    def read(connection: Connection, statement: Select[Any]) -> set[int]:
        """Return the slots of a statement, in epoch seconds."""
        return {round(row[0]) for row in connection.execute(statement)}

    def slot(self, seconds: int) -> Slot:
        """Return a slot as `perform` takes it."""
        return seconds if self._whole else datetime.fromtimestamp(seconds, UTC)

    @staticmethod
    def seconds(slot: Slot) -> int:
        """Return a slot in epoch seconds."""
        return round(slot.timestamp()) if isinstance(slot, datetime) else slot


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for at in range(0, len(values), _CHUNK):
        yield values[at : at + _CHUNK]
