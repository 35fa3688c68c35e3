"""What jobs and reconcilers could do wrong, found before they do. A closed set of findings, each with its remedy.

What can never work is an error at import and is not found here; this is about what works and will hurt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from reconciler.rules import jobs, passes, rows
from reconciler.rules.databases import Answers, ask, missing_timeouts
from reconciler.rules.found import Check, Finding, Seen, ordered
from reconciler.rules.jobs import span_of

__all__ = [
    "Answers",
    "Check",
    "Finding",
    "Seen",
    "ask",
    "lint",
    "missing_timeouts",
    "ordered",
    "span_of",
]

_RULES: Final[tuple[Callable[[Seen], Iterator[Finding]], ...]] = (
    jobs.unreconciled,
    jobs.shared,
    jobs.retries,
    jobs.unserved,
    jobs.shards,
    passes.jitter,
    passes.slow,
    passes.budget,
    passes.marks,
    passes.edges,
    passes.shadow,
    passes.guards,
    rows.hidden,
)


def lint(seen: Seen) -> list[Finding]:
    """Return what is found in the definitions alone, and in how passes went."""
    return ordered(each for rule in _RULES for each in rule(seen))
