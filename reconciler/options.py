"""What may be said of a reconciler beside its query: the class keywords, and the values that some of them take.

Each value checks itself when it is made; what belongs to a class, which has a name to show, is checked there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias, TypedDict, cast

from reconciler.errors import Rule, broken

Duration: TypeAlias = timedelta | float
"""A timedelta, or seconds."""

LARGEST_BATCH: Final = 1_000


def seconds(owner: str, option: str, value: object, rule: Rule = Rule.OPTION) -> float:
    """Return a duration in seconds.

    Raises:
        DefinitionError: it is none, or negative, or too long to be one.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    longest = timedelta.max.total_seconds()
    if type(value) not in (int, float) or not 0 <= cast("float", value) < longest:
        raise broken(
            owner,
            rule,
            f"{option} is missing" if value is None else f"{option} is {value!r:.80}",
            f"Use a timedelta or a number of seconds: {option}=timedelta(minutes=1)",
        )
    return float(cast("float", value))


def _whole(owner: str, option: str, value: object, least: int = 1) -> None:
    if type(value) is not int or value < least:
        raise broken(owner, Rule.OPTION, f"{option} is {value!r:.80}", f"Use {least} or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backpressure:
    """When passes wait and leave their rows in SQL, where a backlog costs nothing. Edges are never refused by it.

    Raises:
        DefinitionError: marks that cannot be, or a hook that cannot be called.
    """

    high: int | None = None
    """Jobs on the queue, due ones of passes included, at which passes wait. None: as many as there are."""
    low: int | None = None
    """Jobs below which they go on; half of `high` by default."""
    memory: float = 0.8
    """Share of Redis' `maxmemory` at which passes wait."""
    health: Sequence[Callable[[], str | None]] = ()
    """Asked before each page: why passes should wait, or None when all is well. Must answer in milliseconds."""

    def __post_init__(self) -> None:
        owner = "Backpressure"
        if self.high is not None:
            _whole(owner, "high", self.high)
        if self.low is not None:
            _whole(owner, "low", self.low, 0)
        if self.low is not None and (self.high is None or self.low >= self.high):
            raise broken(
                owner,
                Rule.OPTION,
                f"low is {self.low:,} and high {self.high}: passes would never go on, or never wait",
                "Use low < high: Backpressure(high=5_000, low=1_000)",
            )
        if type(self.memory) not in (int, float) or not 0 < self.memory <= 1:
            raise broken(
                owner,
                Rule.OPTION,
                f"memory is {self.memory!r:.80}",
                "Use a share of Redis' maxmemory above 0 and up to 1: memory=0.8",
            )
        object.__setattr__(self, "health", tuple(self.health))
        for hook in self.health:
            if not callable(hook):
                raise broken(
                    owner,
                    Rule.OPTION,
                    f"health has {hook!r:.80}, which cannot be called",
                    "Give functions that return why passes should wait, or None",
                )

    @property
    def resume(self) -> int:
        """The jobs below which passes go on."""
        return (self.high or 0) // 2 if self.low is None else self.low


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """What becomes of a row whose job dies, crashes its process, or ends well and changes nothing.

    After each such end its row waits: `backoff[0]` first, twice as long each time, `backoff[1]` at most. After so many
    ends of a kind it is quarantined: told again only when the row has changed, a new release runs, or somebody releases it.

    Raises:
        DefinitionError: counts or times that cannot be.
    """

    after: int = 5
    """Deaths: the job has no retries left, or said that none would help."""
    crashes: int = 3
    """Deaths in company: the job ended its process."""
    no_progress: int = 3
    """Good ends after which the row was pending still."""
    backoff: tuple[Duration, Duration] = (300.0, 86_400.0)
    reset_on: (
        tuple[Literal["version", "release"], ...] | frozenset[Literal["version", "release"]]
    ) = (
        "version",
        "release",
    )
    """What gives a row another chance: a new row version, a new release (one run each)."""

    def __post_init__(self) -> None:
        owner = "Quarantine"
        for option in ("after", "crashes", "no_progress"):
            _whole(owner, option, getattr(self, option))
        if type(self.backoff) is not tuple or len(self.backoff) != 2:  # noqa: PLR2004 - shortest and longest
            raise broken(
                owner,
                Rule.OPTION,
                f"backoff is {self.backoff!r:.80}",
                "Use the first and the longest: backoff=(timedelta(minutes=5), timedelta(hours=24))",
            )
        short, long = (seconds(owner, "backoff", each) for each in self.backoff)
        if not 0 < short <= long:
            raise broken(
                owner,
                Rule.OPTION,
                f"backoff begins with {short:g} s and ends with {long:g} s",
                "Use the first and the longest, both above 0",
            )
        object.__setattr__(self, "backoff", (short, long))
        object.__setattr__(self, "reset_on", frozenset(self.reset_on))
        unknown = sorted(map(str, set(self.reset_on) - {"version", "release"}))
        if unknown:
            raise broken(
                owner,
                Rule.OPTION,
                f"reset_on has {', '.join(unknown)}",
                "There are: 'version', 'release'",
            )

    @property
    def shortest(self) -> float:
        """Seconds that a row waits after its first bad end."""
        return cast("float", self.backoff[0])

    @property
    def longest(self) -> float:
        """Seconds that a row waits at most."""
        return cast("float", self.backoff[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fair:
    """How the rows of many tenants share a pass; needs `tenant=` in derive(). Raises DefinitionError."""

    per_tenant: int
    """Rows of one tenant that a pass tells at most; every tenant's first row comes before anybody's second."""

    def __post_init__(self) -> None:
        _whole("Fair", "per_tenant", self.per_tenant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Passes read a replica while it is fresh enough; jobs look at their row on the primary in any case.

    Raises:
        DefinitionError: what cannot be.
    """

    replica: str
    """The name of a database in the settings."""
    max_lag: Duration = 5.0
    fallback: Literal["primary", "skip"] = "primary"
    """What a pass does while the replica is behind: read the primary, or wait."""
    lag: Callable[[], float] | None = None
    """Seconds that the replica is behind, where the server itself cannot say."""

    def __post_init__(self) -> None:
        owner = "Freshness"
        if type(self.replica) is not str or not self.replica:
            raise broken(
                owner,
                Rule.OPTION,
                f"replica is {self.replica!r:.80}",
                "Use the name of a database in the settings: replica='reporting'",
            )
        if self.fallback not in ("primary", "skip"):
            raise broken(
                owner,
                Rule.OPTION,
                f"fallback is {self.fallback!r:.80}",
                "There are: 'primary', 'skip'",
            )
        object.__setattr__(self, "max_lag", seconds(owner, "max_lag", self.max_lag))


@dataclass(frozen=True, slots=True)
class Shards:
    """The databases over which the rows of one reconciler are spread.

    The job's first parameter is `shard: str`; a pass fills it, and it is part of the key.
    """

    load: Callable[[], Mapping[str, Any]]
    """Returns shard → Engine, sessionmaker, URL, or the name of a database in the settings. Asked at the start, and again
    once a minute."""


class GuardKind(StrEnum):
    """How a run makes sure that it is alone with its row."""

    CLAIM = "claim"  # a column of the row says until when it is taken
    ROW_LOCK = "row_lock"  # SELECT … FOR UPDATE SKIP LOCKED for the whole run: for short jobs
    ADVISORY = "advisory"  # the database's advisory lock of the key: for long ones


@dataclass(frozen=True, slots=True)
class Guard:
    """For effects that must not happen twice even if two runs of one key should ever overlap. Make one by its methods."""

    kind: GuardKind
    column: Any = None
    ttl: float = 0.0

    @classmethod
    def claim(cls, column: Any, ttl: Duration = 900.0) -> Guard:
        """Write into a column of the row, a moment, until when it is taken; `ttl` bounds it if the process dies."""
        return cls(GuardKind.CLAIM, column, seconds("Guard.claim", "ttl", ttl))

    @classmethod
    def row_lock(cls) -> Guard:
        """Hold the row's lock in the transaction of the run's session."""
        return cls(GuardKind.ROW_LOCK)

    @classmethod
    def advisory(cls) -> Guard:
        """Hold an advisory lock of the database for the key."""
        return cls(GuardKind.ADVISORY)


class Options(TypedDict, total=False):
    """The class keywords of a reconciler. One of `every` and `cron` has to be given."""

    every: Duration
    """Between the beginnings of two passes."""
    cron: str
    """When passes begin, as five crontab fields in UTC; the first one begins at once."""
    jitter: Duration
    """Told jobs become due within so long, each at an instant of its own. 0 by default."""
    min_age: Duration
    """Rows younger than this are left to their own push. Needs `age=`; then 30 s by default."""
    batch_size: int
    """Rows of a page. 1,000 by default and at most."""
    database: str
    """Where the rows live; `default` by default."""
    queue: str
    """A queue of the passes' own; the job's by default."""
    name: str
    """The class's name by default."""
    budget: Duration
    """A pass ends after so long and the next one goes on where it stood. 10 minutes by default."""
    statement_timeout: Duration
    """A page may take so long, then it is tried again at half the size. 10 s by default."""
    backpressure: Backpressure
    """When passes wait. By default only while Redis is over 80 % full."""
    quarantine: Quarantine
    """What becomes of rows whose jobs do not end well."""
    fair: Fair
    """How tenants share a pass. Needs `tenant=`."""
    freshness: Freshness
    """A replica to read from."""
    shards: Shards
    """The databases over which the rows are spread."""
    recheck: bool
    """A job whose row does not match any more is skipped just before it runs. True by default."""
    expect_progress: bool
    """A job that ends well and leaves its row pending is counted, backed off and quarantined. True by default."""
    edges: bool
    """The application pushes these jobs itself: a row that a pass has to tell was lost, and is counted by cause."""
    guard: Guard
    """Makes sure that two runs of one row never overlap."""
    shadow: bool
    """Passes count what they would tell, and tell nothing."""
    on_unknown: Literal["run", "stop"]
    """What passes do while kill switches are configured and no good answer of their provider was ever seen."""
