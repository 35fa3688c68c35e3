"""Counts in hashes that anybody may write into."""

from __future__ import annotations

from typing import Final

_DIGITS: Final = 15


def count_of(text: bytes) -> int:
    """Return a count as scripts write it, up to 15 digits; 0 for anything else: somebody spoiled it."""
    return int(text) if text.isdigit() and len(text) <= _DIGITS else 0
