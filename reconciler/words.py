"""What is said to people: spans, moments, how often, and which name was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

_OURS: Final = "qik_core.outcomes."
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|m|h|d)", re.ASCII)
_UNITS: Final = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)(?:/(s|min|h))?", re.ASCII)
_PER: Final = {"s": 1.0, "min": 60.0, "h": 3_600.0, None: 1.0}
_LONGEST: Final = 10 * 366 * 86_400.0


def span(seconds: float) -> str:
    """Return a span of time for people."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def span_of(text: str) -> float:
    """Return a span of time, as people write it, in seconds: `90s`, `15min`, `2h`, `1.5d`.

    Raises:
        ValueError: it is none, or longer than ten years.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no span of time: write 90s, 15min, 2h or 3d")
    seconds = float(found[1]) * _UNITS[found[2]]
    if seconds > _LONGEST:
        raise ValueError(f"{text!r} is longer than ten years")
    return seconds


def rate_of(text: str) -> float | None:
    """Return a rate, as people write it, in rows a second: `500/s`, `10000/min`; None for `max`, as fast as it goes.

    Raises:
        ValueError: it is none.
    """
    if text == "max":
        return None
    found = _RATE.fullmatch(text)
    rate = 0.0 if found is None else float(found[1]) / _PER[found[2]]
    if rate <= 0:
        raise ValueError(f"{text!r} is no rate: write 500/s, 10000/min, or max")
    return rate


def moment(seconds: float) -> str:
    """Return a moment for people, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def size(count: int) -> str:
    """Return a number of bytes for people."""
    for unit, name in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


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
