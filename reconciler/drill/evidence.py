"""What a drill has seen, as values: enough to judge it and to draw it without any server.

All times are seconds since the drill began, by this machine's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from reconciler.drill.kinds import MARKS, TITLES, Kind

NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stood at one instant, in rows and jobs."""

    at: float
    pending: int
    """Rows that want a job."""
    queued: int
    """Jobs that wait: on queues, scheduled, or for a retry."""
    running: int
    done: int
    """Rows that wanted a job and want none any more."""
    ready: int = 0
    """Those of the jobs that wait that are on queues, for the next thread that is free."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, and how it healed."""

    kind: Kind
    at: float
    """When it was done; for one that lasts, when it began."""
    over: float
    """When it was over, and healing could begin; the same moment for most."""
    hit: int
    """Rows whose job it took away, cut short or kept out."""
    running: int
    """Jobs that were running."""
    held: int = 0
    """Rows whose job it took away, too, and that passes leave out on purpose."""
    first: float | None = None
    """When the first row that was hit had a job again, ran again, or was done."""
    healed: float | None = None
    """When all of them had."""
    note: str = ""
    missed: str = ""
    """Why it could not be done; empty when it was."""

    @property
    def took(self) -> float | None:
        """Seconds until all was whole; None while it is not."""
        return None if self.healed is None else max(0.0, self.healed - self.over)

    @property
    def title(self) -> str:
        """What it is, for people."""
        return TITLES[self.kind]

    @property
    def remark(self) -> str:
        """What else is to be said of it; empty for nothing."""
        held = f"{self.held} more rows are held back on purpose" if self.held else ""
        return "; ".join(filter(None, [held, self.note]))

    @property
    def mark(self) -> str:
        """The same in two words."""
        return MARKS[self.kind]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job."""

    key: str
    jid: str
    pid: int
    started: float
    ended: float | None = None
    """None while it runs, and for ever if its process died."""
    outcome: str = ""
    """"ok", or the name of what it raised; empty without an end."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A process that was ended or frozen: what it ran then has ended there, as far as others may know."""

    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class Effects:
    """What the rows of the drill's own service say of their jobs' effects."""

    rows: int
    done: int
    doubled: tuple[str, ...] = ()
    """Rows whose effect happened more than once."""
    withheld: int = 0
    """Runs that came second, and changed nothing."""


@dataclass(frozen=True, slots=True)
class Left:
    """What was there when the work was done."""

    jobs: Mapping[str, int] = field(default_factory=dict)
    """By place: queued, running, retrying, dead …"""
    locks: int = 0
    untold: tuple[str, ...] = ()
    """Rows that are pending and have no job: lost."""
    told: tuple[str, ...] = ()
    """Rows that are pending and have one."""
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Rows that are pending and that passes leave out on purpose, by the reason: shadow, over_share, quarantined …"""
    exits: Mapping[str, int] = field(default_factory=dict)
    """Exit code of each process that was asked to stop."""


@dataclass(frozen=True, slots=True)
class Edges:
    """What pushes of the load were answered."""

    told: int = 0
    refused: int = 0
    """Pushes that were surely not written, as at a full Redis."""
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it."""

    settings: Mapping[str, str]
    seconds: float
    asked: tuple[Kind, ...]
    """The faults that were asked for."""
    samples: tuple[Sample, ...]
    faults: tuple[Fault, ...]
    runs: tuple[Run, ...]
    cuts: tuple[Cut, ...]
    left: Left
    edges: Edges = field(default_factory=Edges)
    threads: int = 1
    """Job threads of all workers."""
    rest: float = NEVER
    """Seconds for which nothing may start while jobs are on queues and threads are free."""
    effects: Effects | None = None
    """None for an application of one's own: only its rows can be counted."""
    given_up: str = ""
    """Why the drill ended before all was done; empty when it did not."""
    optional: bool = False
    """A fault that found nothing to hit is no finding: an application of one's own may have no retries, say."""

    @property
    def rows(self) -> int:
        """Rows that wanted a job at some time."""
        if self.effects is not None:
            return self.effects.rows
        last = self.samples[-1] if self.samples else None
        return last.pending + last.done if last else 0

    def as_json(self) -> dict[str, Any]:
        """Return what is worth keeping, as JSON values; runs only by number."""
        kept = asdict(self)
        kept["runs"] = len(self.runs)
        for fault, shown in zip(self.faults, kept["faults"], strict=True):
            shown |= {"title": fault.title, "took": fault.took}
        return kept
