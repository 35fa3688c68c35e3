"""Breaks one part of the engine on purpose, to see that the verdict notices. The engine itself knows nothing of this.

`apply` patches the engine inside a process of the demo. Run as a module it stands in front of a command, for what
happens in processes that import no application:

    python -m examples.indexer.sabotage qik_core.cli work …
"""

from __future__ import annotations

import random
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from examples.indexer import evidence
from examples.indexer.evidence import Evidence


class Part(StrEnum):
    """What can be broken."""

    LOCK = "lock"
    FETCH = "fetch"
    EPOCH = "epoch"
    GUARD = "guard"
    RECOVERY = "recovery"
    VERDICT = "verdict"


def apply(part: str) -> None:
    """Break this part in this process; nothing when empty."""


def tamper(folder: Path, dice: random.Random) -> str:
    """Change the evidence of a demo and seal it again; return what was changed."""
    found = evidence.read(folder)
    how = dice.choice(TAMPERINGS)
    evidence.write(folder, how(found, dice))
    return (how.__doc__ or "").strip()


def _other_hash(found: Evidence, dice: random.Random) -> Evidence:
    """One row's hash is another's."""
    one, other = dice.sample([row for row in found.rows if row.sha256], 2)
    rows = [replace(row, sha256=_turned(other.sha256)) if row == one else row for row in found.rows]
    return replace(found, rows=rows)


def _turned(digest: str | None) -> str:
    return (digest or "0")[::-1]


def _one_effect_more(found: Evidence, dice: random.Random) -> Evidence:
    """One run is listed a second time, under another id."""
    run = dice.choice([run for run in found.runs if run.applied])
    return replace(found, runs=[*found.runs, replace(run, run=run.run[::-1])])


def _one_effect_less(found: Evidence, dice: random.Random) -> Evidence:
    """The run that made a row done is missing."""
    gone = dice.choice([run for run in found.runs if run.applied])
    return replace(found, runs=[run for run in found.runs if run != gone])


def _one_row_less(found: Evidence, dice: random.Random) -> Evidence:
    """One row is missing."""
    gone = dice.choice(found.rows)
    return replace(found, rows=[row for row in found.rows if row != gone])


def _one_fault_less(found: Evidence, dice: random.Random) -> Evidence:
    """One fault is missing, as if it had not been dared."""
    gone = dice.choice(found.faults)
    return replace(found, faults=[fault for fault in found.faults if fault != gone])


TAMPERINGS: Final = (
    _other_hash,
    _one_effect_more,
    _one_effect_less,
    _one_row_less,
    _one_fault_less,
)
