"""How often to ask a server that may be in trouble, and when to say that it is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from reconciler.words import span

LONGEST: Final = 30.0
"""Seconds between two questions to a server that does not answer, at the most, unless it is asked less often anyway."""
_LONGEST_WAIT: Final = 60.0  # that a server may ask for
_DOUBLINGS: Final = 10
_MISSED: Final = 3  # questions without an answer before it is a line in the log


class Pace(NamedTuple):
    """Seconds between two questions."""

    refresh: float
    longest: float


def pause(pace: Pace, failures: int, wanted: float, dice: float) -> float:
    """Return the seconds until the next question: at most `refresh` while all is well, ever more while it is not.

    `wanted` is what the server asked for; `dice`, from 0 to 1, spreads processes that began together.
    """
    if failures == 0:
        return pace.refresh * (1 - dice / 10)
    backed_off = float(min(pace.refresh * 2 ** min(failures - 1, _DOUBLINGS), pace.longest))
    return max(backed_off, min(wanted, _LONGEST_WAIT)) * (1 - dice / 5)


@dataclass(slots=True)
class Answers:
    """How well a server answers one process. Monotonic seconds."""

    last: float | None = None
    """When the last good answer came; None: none did."""
    fault: str = ""
    """What is wrong with the last question's answer, if anything is."""

    def said(self, refresh: float, now: float) -> str:
        """Return the same for people who look: what is wrong with the last answer alone, too."""
        return self.stale(refresh, now) or self.fault

    def stale(self, refresh: float, now: float) -> str:
        """Return why what is known may be old; a question or two without an answer are no reason to warn."""
        if self.last is None:
            return self.fault
        age = now - self.last
        if age < _MISSED * refresh + 1:
            return ""
        return f"{self.fault or 'does not answer'}, since {span(age)}"
