"""What is measured: the closed list of cases, what a figure is counted in, and what all systems agree on."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

QUEUE: Final = "bench"
NAP: Final = 0.001
"""Seconds that a job takes where jobs take time."""


class CaseName(StrEnum):
    """A case."""

    PUSH = "push"
    PUSH_UNIQUE = "push-unique"
    BULK = "bulk"
    BULK_UNIQUE = "bulk-unique"
    BULK_JITTERED = "bulk-jittered"
    BYTES = "bytes"
    BYTES_UNIQUE = "bytes-unique"
    DRAIN = "drain"
    DRAIN_ALL_CORES = "drain-all-cores"
    DRAIN_1MS = "drain-1ms"
    DRAIN_USERS = "drain-users"
    LATENCY = "latency"
    LATENCY_HALF_LOAD = "latency-half-load"
    IDLE_CPU = "idle-cpu"
    RSS = "rss"
    PROMOTE = "promote"
    RECOVER = "recover"
    RECOVER_BACKLOG = "recover-backlog"
    FLUSH = "flush"
    PASS_NEW = "pass-new"
    PASS_JITTERED = "pass-jittered"
    PASS_TOLD = "pass-told"


class Figure(StrEnum):
    """What a value is: of a rate more is better, of everything else less."""

    RATE = "jobs/s"
    P50 = "ms, p50"
    P99 = "ms, p99"
    BACK = "s until all run again"
    CPU = "% of a core"
    PARENT = "MB, parent"
    CHILD = "MB, child idle"
    AFTER = "MB, child after n"
    BYTES = "bytes a job"
