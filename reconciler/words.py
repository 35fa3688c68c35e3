"""What is said to people: spans, moments, how often, and which name was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

_OURS: Final = "qik_core.outcomes."


def span(seconds: float) -> str:
    """Return a span of time for people."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def moment(seconds: float) -> str:
    """Return a moment for people, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def plain(value: Any) -> Any:
    """Return a value as JSON can carry it: as itself, or as its text."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def times(count: int) -> str:
    """Return how often something happened, for people."""
    return "once" if count == 1 else f"{count:,} times"


def said(error: str) -> str:
    """Return an error for people: what a job raised to say how it ended goes without our module's name."""
    return error.removeprefix(_OURS)


def joined(text: str, error: str) -> str:
    """Return what happened, and the error of it if there is one."""
    return f"{text}: {said(error)}" if error else text


def meant(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about a name that is not known: which one is near; empty where none is."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def cause(error: Exception) -> str:
    """Return an error in one line, without where SQLAlchemy's pages explain it."""
    return " ".join(str(error).partition("(Background on")[0].split())
