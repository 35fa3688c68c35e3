"""Every metric of a process of reconcilers. Names of Kubernetes' controllers where they have one.

docs/reference/metrics.md has the same list; a test compares.
"""

from __future__ import annotations

from typing import Final

from qik_core.probes.families import COUNTER, GAUGE, HISTOGRAM, Family

_BY: Final = ("controller",)

RESULTS: Final = Family(
    "controller_runtime_reconcile_total",
    COUNTER,
    "Passes that this process has ended, by outcome.",
    ("controller", "result"),
)
ERRORS: Final = Family(
    "controller_runtime_reconcile_errors_total",
    COUNTER,
    "Passes of this process that failed.",
    _BY,
)
TIMES: Final = Family(
    "controller_runtime_reconcile_time_seconds",
    HISTOGRAM,
    "How long passes of this process took.",
    _BY,
)
SCANNED: Final = Family(
    "qik_scanned_rows_total", COUNTER, "Rows that passes of this process have read.", _BY
)
CODES: Final = Family(
    "qik_pass_rows_total",
    COUNTER,
    "Rows that passes of this process have dealt with, by what became of them.",
    ("controller", "code"),
)
DRIFT: Final = Family(
    "qik_recovered_rows_total",
    COUNTER,
    "Rows that passes of this process found without a job, by cause, where `edges=True`.",
    ("controller", "cause"),
)
PASSES: Final = (RESULTS, ERRORS, TIMES, SCANNED, CODES, DRIFT)
"""What one process counts: add them up over processes."""

SQL: Final = (
    Family("qik_sql_up", GAUGE, "1 if the home database answered this scrape."),
    Family(
        "controller_runtime_active_workers", GAUGE, "1 while a pass is under way, anywhere.", _BY
    ),
    Family("qik_pass_running_seconds", GAUGE, "How long the pass under way has run so far.", _BY),
    Family("qik_lease_held", GAUGE, "1 if some process holds the lease.", _BY),
    Family("qik_lease_here", GAUGE, "1 if the process that answers holds it.", _BY),
    Family("qik_lease_term", GAUGE, "How often the lease has changed hands.", _BY),
    Family(
        "qik_last_success_timestamp_seconds",
        GAUGE,
        "When the last pass that told every row ended; 0 if there was none in 7 days.",
        _BY,
    ),
    Family(
        "qik_last_pass_age_seconds",
        GAUGE,
        "For how long no pass has ended, whatever its outcome.",
        _BY,
    ),
    Family(
        "qik_pass_interval_seconds",
        GAUGE,
        "How much time lies between two passes at most; only of reconcilers that are defined here.",
        _BY,
    ),
    Family("qik_last_pass_seconds", GAUGE, "How long the last pass took.", _BY),
    Family("qik_pending_rows", GAUGE, "Rows that the last whole pass saw.", _BY),
    Family(
        "qik_oldest_pending_age_seconds",
        GAUGE,
        "Age of the oldest row that the last pass saw; only where the reconciler has an age.",
        _BY,
    ),
    Family(
        "qik_oldest_untold_age_seconds",
        GAUGE,
        "Age of the oldest row for which the last pass found no job; 0 if it found none.",
        _BY,
    ),
    Family("qik_untold_rows", GAUGE, "Rows without a job, about; only where that is known.", _BY),
    Family(
        "qik_time_to_whole_seconds",
        GAUGE,
        "How long until every row would be told again if Redis lost its data now.",
        _BY,
    ),
    Family("qik_switched_off", GAUGE, "1 if a kill switch stopped the last pass.", _BY),
    Family("qik_quarantined_rows", GAUGE, "Rows that no pass tells any more.", ("class",)),
)
"""What the home database knows, as of the scrape. Every process says the same: take the maximum, not the sum."""

SEEN: Final = (
    Family("qik_reconciler_redis_up", GAUGE, "1 if Redis answered this scrape."),
    Family("qik_switches_version", GAUGE, "Version of the kill switches, milliseconds since 1970."),
    Family(
        "qik_switches_processes",
        GAUGE,
        "Worker processes that go by the kill switches of now, and those that do not yet.",
        ("current",),
    ),
)
"""What Redis knows of kill switches, as of the scrape."""

RECONCILERS: Final = (*PASSES, *SQL, *SEEN)
