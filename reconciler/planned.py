"""What a plan says: values, and what it asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from qik_core.passes import Passes
from reconciler.engines import Engines
from reconciler.explain import Explained
from reconciler.quarantine import RowStates

LIMIT: Final = 10_000
"""Rows that are counted, unless the caller says otherwise."""
ROWS: Final = 10
"""Rows that are shown."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One of the first rows."""

    key: tuple[Any, ...]
    args: tuple[Any, ...]
    told: bool | None
    """None where Redis did not answer."""
    delay: float
    """Seconds after which its job would become due if it were told now."""
    left_out: str = ""
    """Why a pass would leave it out: waiting, quarantined, late or over_share."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, whatever the types of its key."""
        return {
            "key": [str(each) for each in self.key],
            "args": [str(each) for each in self.args],
            "told": self.told,
            "delay": round(self.delay, 3),
            "left_out": self.left_out,
        }


@dataclass(frozen=True, slots=True)
class Count:
    """How many; `at_least` when counting ended at its limit."""

    rows: int
    at_least: bool

    def __str__(self) -> str:
        return f"{'at least ' if self.at_least else ''}{self.rows:,}"


@dataclass(slots=True)
class Plan:
    """What a pass of one reconciler would do. None stands for what could not be asked; `errors` say why."""

    reconciler: str
    job: str
    queue: str
    database: str
    every: float
    jitter: float
    min_age: float
    shard: str = ""
    shadow: bool = False
    """Its passes count what they would tell, and tell nothing."""
    gate: str = ""
    """Why not any number of rows would be told; empty when any would."""
    room: int | None = None
    """How many rows the gate lets through; None: any number, or not known."""
    page: Explained | None = None
    check: Explained | None = None
    """The statement that looks at one row by its key, explained with the first key."""
    check_sql: str = ""
    pending: Count | None = None
    told: int | None = None
    """Of the rows counted."""
    invalid: int = 0
    """Of the rows counted: those whose arguments cannot travel."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Of the rows counted: those that a pass leaves out, by why."""
    new: int | None = None
    """Of the rows counted: those that a pass would tell, if there were room for all. None where Redis does not say."""
    young: Count | None = None
    ahead: Count | None = None
    """Rows that are due further ahead than the horizon, which are not among those counted."""
    tenants: int | None = None
    """Whose rows they are, of those counted; None for a reconciler without tenants."""
    rows: list[Shown] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    @property
    def unit(self) -> str:
        """The name, with the shard behind it where there is one."""
        return f"{self.reconciler}/{self.shard}" if self.shard else self.reconciler

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "reconciler": self.reconciler,
            "job": self.job,
            "queue": self.queue,
            "database": self.database,
            "every": self.every,
            "jitter": self.jitter,
            "min_age": self.min_age,
            "pending": self.pending and self.pending.rows,
            "at_least": bool(self.pending and self.pending.at_least),
            "told": self.told,
            "would_tell": self.new,
            "left_out": self.left_out,
            "shard": self.shard,
            "shadow": self.shadow,
            "room": self.room,
            "gate": self.gate,
            "tenants": self.tenants,
            "not_due": self.ahead and self.ahead.rows,
            "invalid": self.invalid,
            "too_young": self.young and self.young.rows,
            "rows": [each.as_json() for each in self.rows],
            "page": self.page and self.page.as_json(),
            "check": self.check.as_json() if self.check else {"sql": self.check_sql},
            "findings": self.findings,
            "errors": [str(each) for each in self.errors],
        }


@dataclass(frozen=True, slots=True)
class Means:
    """What a plan asks, and how much of it."""

    engines: Engines
    seam: Passes | None
    """None: Redis does not answer, so nothing is known of who is told."""
    limit: int = LIMIT
    rows: int = ROWS
    gone: Mapping[str, Exception] = field(default_factory=dict)
    """The databases that do not answer: place → why, see `units.place_of`."""
    states: RowStates | None = None
    """What is remembered of rows; None: that cannot be asked, so none counts as held back."""
