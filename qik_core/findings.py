"""How bad something is that `qik doctor` or `reconciler lint` has found."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """An error or a warning makes exit code 1, a note does not. The worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


COLOURS: Final = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: None}


def matters(severities: Iterable[Severity]) -> bool:
    """Whether there is more than notes."""
    return any(each is not Severity.NOTE for each in severities)
