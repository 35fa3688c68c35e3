"""Rules on the way from a job back to its row."""

from __future__ import annotations

from collections.abc import Iterator

from qik_core.findings import Severity
from reconciler.inverse import inverse
from reconciler.rules.found import Check, Finding, Seen


def hidden(seen: Seen) -> Iterator[Finding]:
    """A job whose row cannot be found runs without a look at it."""
    for each in seen.reconcilers:
        way = inverse(each.shape, each.facts, sharded=each.shards is not None)
        if way is None and (each.recheck or each.expect_progress):
            yield Finding(
                Check.UNCHECKED,
                Severity.WARNING,
                each.name,
                f"args= changes the key on its way to {each.facts.name}: jobs run without a look at their row, and one that "
                "makes no progress is not noticed",
                "Return the key columns from args= unchanged, or say recheck=False, expect_progress=False",
            )
