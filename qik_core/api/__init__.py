"""Jobs, queues and processes for programs: look at them, and change them, while workers run.

    from qik_core.api import Queue, RetrySet, Stats

    Stats.read().retries
    RetrySet().retry_all("class:Charge error:TimeoutError")
    for job in Queue("billing").matching("tag:import -args:42"):
        print(job.jid, job.enqueued_at)

Everything reads in windows, so a million jobs take no more memory than five hundred. Every change is one step, atomic against
workers, frees the locks of what it removes, and answers with a value from a closed set.
"""

from __future__ import annotations

from qik_core.api.acts import Act, Acted, Tally
from qik_core.api.cancelling import Cancelled, cancel
from qik_core.api.filters import Filter, Term
from qik_core.api.holding import HeldList
from qik_core.api.minutes import ClassHistory, ClassStats, Deploy, Runs, mark_deploy
from qik_core.api.numbers import History, QueueStats, Stats
from qik_core.api.processes import Process, ProcessSet, Signal, Work, WorkSet
from qik_core.api.record import JobRecord, Location, State
from qik_core.api.sets import (
    BuriedByHand,
    DeadSet,
    JobSet,
    LaterSet,
    Queue,
    RetrySet,
    ScheduledSet,
    SuspectList,
)
from qik_core.store.held import HeldJobs

__all__ = [
    "Act",
    "Acted",
    "BuriedByHand",
    "Cancelled",
    "ClassHistory",
    "ClassStats",
    "DeadSet",
    "Deploy",
    "Filter",
    "HeldJobs",
    "HeldList",
    "History",
    "JobRecord",
    "JobSet",
    "LaterSet",
    "Location",
    "Process",
    "ProcessSet",
    "Queue",
    "QueueStats",
    "RetrySet",
    "Runs",
    "ScheduledSet",
    "Signal",
    "State",
    "Stats",
    "SuspectList",
    "Tally",
    "Term",
    "Work",
    "WorkSet",
    "cancel",
    "mark_deploy",
]
