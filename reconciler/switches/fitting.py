"""Which switches SQL, JSON and Redis can all keep. Pure.

One that they cannot would be refused by a database at each look, and all others with it. So it is refused where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from qik_core.switches import LARGEST, Rule
from reconciler.errors import ReconcilerError
from reconciler.switches.naming import FLAG
from reconciler.switches.provider import Rules

REASON: Final = 16_000
"""Characters of a reason at the most: of four bytes each they fill MariaDB's TEXT."""
NEVER: Final = 253_402_300_800.0
"""The year 10000 in epoch seconds: no moment from then on can be shown, and not all can be kept."""
_TOLD: Final = 4_000


class UnfitSwitch(ReconcilerError):
    """This switch cannot be kept, or not beside all others. The message says why, and what to do."""


def fitting(rules: Rules, before: Rules) -> tuple[dict[str, tuple[Rule, ...]], list[str]]:
    """Return the switches that can be kept, and why others cannot: of those what was said before holds."""
    found, refused = dict(rules), []
    for flag, each in rules.items():
        why = unfit(flag, each)
        if why:
            refused.append(f"{why} (what was said of it before holds)")
            del found[flag]
            if flag in before:
                found[flag] = before[flag]
    return found, refused


def unfit(flag: str, rules: Iterable[Rule]) -> str:
    """Return why these rules of a flag cannot be kept, and what to do; empty if they can."""
    if FLAG.fullmatch(flag) is None:
        return f"{flag!r:.80} is no name of a switch: use disable_ and up to 190 letters, digits, '_', '.' and '-'"
    made = tuple(rules)
    why = next(filter(None, map(_unfit, made)), "")
    size = 0 if why else len(msgspec.json.encode(made))
    if size > LARGEST:
        why = f"takes {size:,} bytes as JSON, more than {LARGEST:,}: name fewer keys or tenants"
    return f"{flag} {why}" if why else ""


def legible(text: str) -> str:
    """Return a text for people as every database can keep it: not too long, and of whole characters."""
    shown = text.replace("\0", "?").encode("utf-8", "replace").decode()
    return shown if len(shown) <= _TOLD else f"{shown[:_TOLD]}…"


def _unfit(rule: Rule) -> str:
    texts = (rule.who, rule.reason, *(value for each in rule.where for value in each.values))
    if not all(map(_whole, texts)):
        return (
            "has a text with a NUL or half a character, which no database keeps: write it without"
        )
    if len(rule.reason) > REASON:
        return f"has a reason of {len(rule.reason):,} characters: use at most {REASON:,}"
    if rule.expires_at is not None and not 0 <= rule.expires_at < NEVER:
        return f"expires at {rule.expires_at}: use a moment from 1970 to 9999, in epoch seconds or as text"
    return ""


def _whole(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
