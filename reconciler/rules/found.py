"""What lint can find, and what it looks at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from qik_core.findings import Severity
from reconciler.definition import Definition
from reconciler.status import Standing


class Check(StrEnum):
    """Everything that can be found."""

    UNRECONCILED = "unreconciled"
    NEEDLESS_REASON = "needless-reason"
    UNSERVED = "unserved"
    SHARED_KEYS = "shared-keys"
    NEVER_RETRIED = "never-retried"
    RETRIES_OUTLAST = "retries-outlast-unique"
    JITTER_NONE = "jitter-none"
    JITTER_WIDE = "jitter-wide"
    SLOW_PASS = "slow-pass"
    BUDGET_SHORT = "budget-short"
    MARK_LOW = "mark-below-page"
    EDGES_WITHOUT_AGE = "edges-without-age"
    QUARANTINE_FAR = "quarantine-far"
    SHADOW = "shadow"
    SHARD_OPTIONAL = "shard-optional"
    SHARD_MISSING = "shard-missing"
    UNCHECKED = "unchecked"
    UNGUARDED = "unguarded"
    GUARD_UNSUPPORTED = "guard-unsupported"
    SCAN = "scan"
    SORT = "sort"
    STATEMENT = "statement"
    DATABASE = "database"
    NO_TIMEOUT = "no-timeout"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: about what, what it is, and what to do."""

    check: Check
    severity: Severity
    subject: str
    """The job, the reconciler or the database."""
    what: str
    remedy: str

    def as_json(self) -> dict[str, str]:
        """Return it as plain JSON values."""
        return {name: str(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Seen:
    """What an application defines, and what SQL knows of it."""

    jobs: Sequence[Any]
    """The engine's definitions of all jobs."""
    reconcilers: Sequence[Definition]
    standings: Sequence[Standing] = ()
    unserved: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Queue → who uses it, for those that no capsule of the settings serves."""


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the worst first."""
    return sorted(findings, key=lambda each: (each.severity.rank, each.check, each.subject))


def telling(seen: Seen) -> dict[str, list[Definition]]:
    """Return the reconcilers of each job, by its name."""
    found: defaultdict[str, list[Definition]] = defaultdict(list)
    for each in seen.reconcilers:
        found[each.facts.name].append(each)
    return found
