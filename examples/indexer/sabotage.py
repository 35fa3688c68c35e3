"""Breaks one part of the engine on purpose, to see that the verdict notices. The engine itself knows nothing of this.

`apply` patches the engine inside a process of the demo. Run as a module it stands in front of a command, for what
happens in processes that import no application:

    python -m examples.indexer.sabotage qik_core.cli work …
"""

from __future__ import annotations

import random
from enum import StrEnum
from pathlib import Path


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
    """Change the evidence of a demo; return what was changed."""
    return ""
