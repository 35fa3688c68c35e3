"""What this package raises on purpose, below `qik_core.errors.QikError`.

QikError
├── DefinitionError        (qik_core) a reconciler that cannot work as it is written; raised at import
└── ReconcilerError
    ├── UnknownReconciler  no imported module defines a reconciler of this name
    ├── SqlUnavailable     a database cannot be reached, or does not answer in time
    │   └── Conflict       it ended our transaction in favour of another one
    ├── NotMigrated        our own tables are missing or older than this release
    └── StatementTimeout   a page took longer than the reconciler's statement timeout
"""

from __future__ import annotations

from enum import StrEnum

from qik_core.errors import DefinitionError, QikError


class ReconcilerError(QikError):
    """The root of this package's errors."""


class UnknownReconciler(ReconcilerError):
    """No imported module defines a reconciler of this name."""


class SqlUnavailable(ReconcilerError):
    """A database cannot be reached, or does not answer in time."""


class Conflict(SqlUnavailable):
    """The database ended a transaction in favour of another: a deadlock, a failed serialisation. Again, it may succeed."""


class NotMigrated(ReconcilerError):
    """Our own tables are missing or older than this release; `reconciler upgrade` makes them."""


class StatementTimeout(ReconcilerError):
    """A statement took longer than it may. The page is tried again at half the size."""


class Rule(StrEnum):
    """The rules that a reconciler is checked against at import. Each error names one."""

    EVERY = "every"
    JITTER_EVERY = "jitter-at-most-every"
    JITTER_UNIQUE = "jitter-below-unique-for"
    MIN_AGE = "min-age-needs-age"
    OPTION = "option"
    NAME = "name"
    NAME_CLASH = "name-clash"
    PENDING = "pending"
    JOB = "job"
    UNIQUE_FOR = "unique-for"
    UNIQUE_UNTIL = "unique-until"
    QUERY = "query"
    COLUMNS = "columns-fit"
    SWAPPED = "labels-swapped"
    KEY = "key"
    KEY_UNIQUE = "key-unique"
    KEY_MAPS = "key-maps-onto-unique-arguments"
    ORDER = "order-not-null"
    AGE = "age"
    SHARD = "shard-first"
    GUARD = "guard"
    RUN_AT = "run-at"
    TENANT = "tenant"
    FAIR = "fair-needs-tenant"
    FRESHNESS = "freshness"
    CRON = "cron"
    SLOTS = "occurrences"


def broken(owner: str, rule: Rule, what: str, remedy: str) -> DefinitionError:
    """Return the error for a broken rule: who breaks which rule how, and what to write instead."""
    stop = "" if what.endswith("?") else "."
    return DefinitionError(f"{owner} [{rule}]: {what}{stop} {remedy}")
