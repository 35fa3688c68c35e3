"""Declarative reconcilers: SQL says which rows want a job, passes tell Redis again whatever it has forgotten.

A public name is imported when it is first used. Nothing here loads Alembic, APScheduler or a flag provider.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qik_core import commits, rows
from qik_core.lazy import exports

if TYPE_CHECKING:
    from reconciler.declaration import Reconciler as Reconciler
    from reconciler.errors import NotMigrated as NotMigrated
    from reconciler.errors import ReconcilerError as ReconcilerError
    from reconciler.errors import SqlUnavailable as SqlUnavailable
    from reconciler.errors import UnknownReconciler as UnknownReconciler
    from reconciler.lost import LossKind as LossKind
    from reconciler.lost import RedisLoss as RedisLoss
    from reconciler.lost import on_redis_loss as on_redis_loss
    from reconciler.occurrences import OccurrenceOptions as OccurrenceOptions
    from reconciler.occurrences import Occurrences as Occurrences
    from reconciler.options import Backpressure as Backpressure
    from reconciler.options import Fair as Fair
    from reconciler.options import Freshness as Freshness
    from reconciler.options import Guard as Guard
    from reconciler.options import Options as Options
    from reconciler.options import Quarantine as Quarantine
    from reconciler.options import Shards as Shards
    from reconciler.pending import Pending as Pending
    from reconciler.pending import derive as derive
    from reconciler.report import Outcome as Outcome
    from reconciler.report import Report as Report
    from reconciler.sharded import derive_sharded as derive_sharded
    from reconciler.tables import include_name as include_name
    from reconciler.tables import include_object as include_object

_HOMES = {
    "declaration": ("Reconciler",),
    "occurrences": ("OccurrenceOptions", "Occurrences"),
    "options": (
        "Backpressure",
        "Fair",
        "Freshness",
        "Guard",
        "Options",
        "Quarantine",
        "Shards",
    ),
    "pending": ("Pending", "derive"),
    "lost": ("LossKind", "RedisLoss", "on_redis_loss"),
    "errors": ("NotMigrated", "ReconcilerError", "SqlUnavailable", "UnknownReconciler"),
    "report": ("Outcome", "Report"),
    "sharded": ("derive_sharded",),
    "tables": ("include_name", "include_object"),
}

__getattr__, __dir__ = exports(__name__, _HOMES)


def _sessions() -> Any:
    return import_module("reconciler.after_commit")


def _rows() -> Any:
    return import_module("reconciler.recheck").of_process()


def _queues() -> dict[str, str]:
    found = import_module("reconciler.registry").everything()
    return {each.name: each.queue for each in found if each.queue}


commits.fill(_sessions)  # for `Job.after_commit`, which needs to know SQLAlchemy's sessions
rows.fill(_rows, _queues)  # for the engine, which looks at the row of a job just before it runs
