"""Which faults are tried together: each configuration is searched whole.

A budget of two or three faults finds what there is to find: all known counterexamples need no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.model.invariants import (
    i1_runs_do_not_overlap,
    i1_runs_never_overlap,
    i2_row_is_done,
    i3_copies,
    i4_no_lock_at_all,
    i4_no_lock_remains,
    i5_no_edge_is_unserved,
    i6_scripts,
)
from tests.model.rules import Rules, Sentence
from tests.model.search import Counterexample, Invariant, search
from tests.model.state import Budget


@dataclass(frozen=True, slots=True)
class Configuration:
    """What may go wrong, and what must hold nevertheless."""

    budget: Budget
    copies: int = 1
    """I3: how many unfinished jobs of the key there may be."""
    small: bool = False
    """Few enough states for every run of the tests."""

    @property
    def loses(self) -> bool:
        """Whether Redis may lose locks."""
        budget = self.budget
        return any(
            (budget.flushes, budget.rebuilds, budget.lock_deletions, budget.working_deletions)
        )

    def always(self, rules: Rules) -> list[Invariant]:
        """Return what must hold in every state."""
        one = i1_runs_do_not_overlap if self.loses else i1_runs_never_overlap
        checks = [one, i3_copies(self.copies)]
        if not self.budget.queue_deletions:
            checks.append(i4_no_lock_remains)
        if self.small:
            checks.append(i6_scripts(rules))
        return checks

    def search(self, rules: Rules) -> tuple[int, Counterexample | None]:
        """Reach every state; returns how many there are, and the first counterexample."""
        return search(self.budget, rules, self.always(rules), FINALLY)


FINALLY: Final = (i2_row_is_done, i5_no_edge_is_unserved, i4_no_lock_at_all)
"""What must come about from every state, without another fault."""

CONFIGURATIONS: Final[Mapping[str, Configuration]] = {
    "lost replies and failures": Configuration(
        Budget(edges=1, lost_replies=1, failures=1), small=True
    ),
    "flush": Configuration(Budget(edges=1, flushes=1), 2, small=True),
    "flush and lost reply": Configuration(Budget(edges=1, flushes=1, lost_replies=1), 2),
    "flush twice": Configuration(Budget(edges=1, flushes=2), 2),
    "flush, lost reply, failure": Configuration(
        Budget(edges=1, flushes=1, lost_replies=1, failures=1), 2
    ),
    "flush and freeze": Configuration(Budget(flushes=1, freezes=1), 2),
    "flush, freeze, edge": Configuration(Budget(edges=1, flushes=1, freezes=1), 2),
    "flush and roll": Configuration(Budget(edges=1, flushes=1, rolls=1), 2),
    "flush and deleted queue": Configuration(Budget(edges=1, flushes=1, queue_deletions=1), 2),
    "flush and deleted locks": Configuration(Budget(flushes=1, lock_deletions=1), 3, small=True),
    "flush and return": Configuration(Budget(edges=1, flushes=1, lost_replies=1, returns=1), 2),
    "flush and slow beat": Configuration(Budget(edges=1, flushes=1, slow_beats=1), 2),
    "flush procedure": Configuration(Budget(edges=1, rebuilds=1, lost_replies=1), 2),
    "deleted queue": Configuration(Budget(edges=1, queue_deletions=1), small=True),
    "deleted locks": Configuration(Budget(edges=1, lock_deletions=1), 2, small=True),
    "deleted locks, lost reply": Configuration(
        Budget(edges=1, lock_deletions=1, lost_replies=1), 2
    ),
    "deleted locks, freeze": Configuration(Budget(lock_deletions=1, freezes=1), 2),
    "locks deleted twice": Configuration(Budget(lock_deletions=2), 3, small=True),
    "deleted working hash": Configuration(Budget(edges=1, working_deletions=1), 2, small=True),
    "deleted working hash, roll": Configuration(Budget(working_deletions=1, rolls=1), 2),
    "expiry and freeze": Configuration(Budget(edges=1, expiries=1, freezes=1), 2),
    "expiry and roll": Configuration(Budget(edges=2, expiries=1, rolls=1), 2),
    "freeze": Configuration(Budget(edges=1, freezes=1), small=True),
    "freeze and roll": Configuration(Budget(edges=1, freezes=1, rolls=1)),
    "crash": Configuration(Budget(edges=1, crashes=1, lost_replies=1, failures=1)),
    "crash and roll": Configuration(Budget(edges=1, crashes=1, rolls=1, roll_deaths=1)),
    "roll": Configuration(Budget(edges=1, rolls=1), small=True),
    "roll and slow beat": Configuration(Budget(edges=1, rolls=1, slow_beats=1), small=True),
    "roll, return, lost reply": Configuration(
        Budget(edges=1, rolls=1, roll_deaths=1, returns=1, lost_replies=1)
    ),
}

COUNTEREXAMPLES: Final[Mapping[Sentence, str]] = {
    Sentence.HOLDER: "flush and lost reply",
    Sentence.HEAD: "deleted locks",
    Sentence.OWN_JID: "flush and lost reply",
    Sentence.EDGE_ON_RUNNING: "expiry and freeze",
    Sentence.OUTCOME_NEEDS_LOCK: "flush, lost reply, failure",
    Sentence.NO_LOCK_FOR_OUTCOMES: "flush and lost reply",
    Sentence.BY_FIELD: "lost replies and failures",
    Sentence.VERDICT: "deleted locks, freeze",
    Sentence.SILENT: "flush and freeze",
    Sentence.ASSERT_FIRST: "flush",
    Sentence.TAKE_DIRTY: "flush",
    Sentence.SOURCES_FIRST: "roll",
    Sentence.WALK_KEEPS: "expiry and roll",
    Sentence.ALL_HAVE_BEATEN: "roll",
    Sentence.ALL_RECOVERED: "freeze",
    Sentence.ONE_AT_A_TIME: "roll, return, lost reply",
    Sentence.NOTICE_FIRST: "flush and deleted locks",
    Sentence.BEAT_NAMES: "roll and slow beat",
    Sentence.WHOLE_HASH: "deleted working hash, roll",
    Sentence.ACKNOWLEDGED: "flush and freeze",
}
"""Where the search finds out that a sentence is missing."""
