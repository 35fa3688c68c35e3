"""The evidence of a small drill without a flaw."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reconciler.drill.evidence import (
    Cut,
    Edges,
    Effects,
    Evidence,
    Fault,
    Left,
    Run,
    Sample,
)
from reconciler.drill.kinds import Kind

KILLED = 4242


def good() -> Evidence:
    """Two rows; a flush, and a process that died under a run."""
    return Evidence(
        settings={"began": "2026-01-01 00:00:00 UTC", "Redis": "valkey 9.1.0"},
        seconds=20.0,
        asked=(Kind.QUEUED, Kind.CHILD),
        samples=tuple(Sample(at, 2 - at // 10, 1, 1, at // 10) for at in range(21)),
        faults=(
            Fault(Kind.QUEUED, 4.0, 4.1, 2, 1, first=5.0, healed=6.0),
            Fault(Kind.CHILD, 10.0, 10.0, 1, 1, first=11.0, healed=11.0),
        ),
        runs=(
            Run("a", "j1", 10, 7.0, 8.0, "ok"),
            Run("b", "j2", KILLED, 9.0),
            Run("b", "j2", 10, 11.0, 12.0, "ok"),
        ),
        cuts=(Cut(KILLED, 10.0),),
        left=Left(jobs={"queued": 0}, exits={"worker-1": 0}),
        edges=Edges(told=2),
        effects=Effects(2, 2),
    )


def with_run(evidence: Evidence, at: int, **changes: Any) -> Evidence:
    """Return it with one run changed."""
    runs = list(evidence.runs)
    runs[at] = replace(runs[at], **changes)
    return replace(evidence, runs=tuple(runs))


def with_fault(evidence: Evidence, at: int, **changes: Any) -> Evidence:
    """Return it with one fault changed."""
    faults = list(evidence.faults)
    faults[at] = replace(faults[at], **changes)
    return replace(evidence, faults=tuple(faults))


def with_left(evidence: Evidence, **changes: Any) -> Evidence:
    """Return it with something else left."""
    return replace(evidence, left=replace(evidence.left, **changes))
