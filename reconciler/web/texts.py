"""What forms and pages of people share: why, spans of time, moments, how long a text may be."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from qik_core.web.asked import Ask, Problem
from reconciler.switches.fitting import NEVER
from reconciler.words import span_of

TEMPLATES: Final = Path(__file__).parent / "templates"
TEXT: Final = 1_000
"""Characters of a text that people have written."""


def reason_in(ask: Ask) -> str:
    """Return why somebody does something.

    Raises:
        Problem: they do not say.
    """
    reason = ask.text("reason").strip()
    if not reason:
        raise Problem(400, "there is no reason: say why, for the audit and for others")
    return reason


def span_in(ask: Ask, name: str) -> float | None:
    """Return a parameter that is a span of time, in seconds; None where it is empty.

    Raises:
        Problem: it is no span of time.
    """
    text = ask.text(name).strip()
    try:
        return span_of(text) if text else None
    except ValueError as error:
        raise Problem(400, f"{name}: {error}") from None


def when(seconds: float | None) -> datetime | None:
    """Return a moment of epoch seconds; None for none, and for what is no moment that can be shown."""
    return datetime.fromtimestamp(seconds, UTC) if seconds and 0 < seconds < NEVER else None
