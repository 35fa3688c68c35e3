"""The sentences of the protocol that are there because a state search found a counterexample without them.

Each can be switched off: `Rules.without(Sentence.OWN_JID)`. The scripts and moves of the model ask the rules wherever
such a sentence decides something.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Sentence(StrEnum):
    """One sentence of the protocol."""

    HOLDER = (
        "A record in state r is mine only if jid and holder are mine; the same jid under another holder "
        "counts as another jid, at fetch, beat, assert and settle; recovery treats the fenced identity as "
        "holder."
    )
    HEAD = (
        "Each hash of locks has a field #, written in the script that makes the generation; a script that "
        "finds it missing treats the epoch as absent: new loss id, new generation, new birth."
    )
    OWN_JID = "Own jid, whatever the state: `enqueued`, nothing added, nothing changed."
    EDGE_ON_RUNNING = (
        "Past its window an edge counts a lock in q, s or t as absent and one in r as running: dirty, and a "
        "roll is asked for."
    )
    OUTCOME_NEEDS_LOCK = (
        "Lock in state r and mine: unlock, retry, bury, re-queue; lock absent: the same without unlock; "
        "anything else: the outcome is dropped and counted `superseded`, no retry, no unlock."
    )
    NO_LOCK_FOR_OUTCOMES = (
        "Beats and rolls renew the lock of a job with an outcome under way only where it is r and mine, and "
        "never create it."
    )
    BY_FIELD = (
        "A field of an answered exchange that the process does not know goes back to its queue; fields of the "
        "unanswered exchange are left alone. Compared by field name, never by jid."
    )
    VERDICT = (
        "A verdict `superseded` names the field; it is remembered and applied when that field's reply "
        "arrives: such a job is not started."
    )
    SILENT = (
        "A process that sees `lost` and whose last acknowledged beat, counted from its sending, is older than "
        "L - 2 H behaves as fenced."
    )
    ASSERT_FIRST = (
        "A process that sees a new loss id beats at once, and the beat asserts; only starting waits, so that "
        "processes can."
    )
    TAKE_DIRTY = (
        "Assert on q, s or t under any jid: running under my jid with the dirty mark set; the queued copy "
        "will be dropped at fetch."
    )
    SOURCES_FIRST = (
        "A walk reads sources before targets: schedule, later, retry, and last the lists."
    )
    WALK_KEEPS = (
        "For each job seen: the new hash or the previous one has a record of another jid: nothing written; "
        "the same jid: record kept; absent in both: q."
    )
    ALL_HAVE_BEATEN = (
        "A roll ends no earlier than when each identity with a beat or a working hash has beaten in the new "
        "generation or is fenced."
    )
    ALL_RECOVERED = "A roll does not end while jobs of a fenced process are being recovered."
    ONE_AT_A_TIME = (
        "A roll that died is walked again from the start in the same generation: no generation is made while "
        "the previous one still stands."
    )

    # Found by this model, after the scripts were written:
    NOTICE_FIRST = (
        "An exchange looks at # of the locks before it decides whether starting waits: one that finds the "
        "loss itself hands out nothing."
    )
    BEAT_NAMES = (
        "An assertion counts for the generation in which its beat named the fields, not for the one it "
        "arrives in."
    )
    WHOLE_HASH = (
        "A process whose working hash has no # has not beaten in any generation; for as long as it is in "
        "`qik:alive` a roll waits for it."
    )
    ACKNOWLEDGED = (
        "A beat that finds no working hash is not an acknowledged beat: it does not end a silence."
    )


@dataclass(frozen=True, slots=True)
class Rules:
    """Which sentences hold. The names are those of `Sentence`, in small letters."""

    holder: bool = True
    head: bool = True
    own_jid: bool = True
    edge_on_running: bool = True
    outcome_needs_lock: bool = True
    no_lock_for_outcomes: bool = True
    by_field: bool = True
    verdict: bool = True
    silent: bool = True
    assert_first: bool = True
    take_dirty: bool = True
    sources_first: bool = True
    walk_keeps: bool = True
    all_have_beaten: bool = True
    all_recovered: bool = True
    one_at_a_time: bool = True
    notice_first: bool = True
    beat_names: bool = True
    whole_hash: bool = True
    acknowledged: bool = True

    @classmethod
    def without(cls, sentence: Sentence) -> Rules:
        """Return all rules but this one."""
        return replace(cls(), **{sentence.name.lower(): False})
