"""What a provider of switches looks like to the switchboard: a flag service, a file, a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from qik_core.switches import Rule

Rules: TypeAlias = Mapping[str, tuple[Rule, ...]]
"""Flag → the rules by which it stops jobs. A flag that is not named runs."""


CLOSING: Final = 1.0
"""Seconds that a provider may take to end."""


class Source(StrEnum):
    """The providers there are."""

    SQL = "sql"  # `disable` and `enable`, by hand: wins over the others
    REDIS = "redis"  # the same, said while SQL did not answer; goes there when it answers again
    FILE = "file"
    UNLEASH = "unleash"


class Provider(Protocol):
    """Knows switches, from memory. Made in the process that uses it; all methods may be called from any thread."""

    @property
    def name(self) -> str:
        """One of `Source`; it goes into rules, the audit and what people read."""

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to look; `changed` is called whenever `rules()` has become another. Never blocks, never raises."""

    def rules(self) -> Rules | None:
        """Return what is known, or was known last; None while nothing was ever known. Costs no I/O."""

    def health(self) -> str:
        """Return why what is known may be old, for people; empty while all is well."""

    def close(self, seconds: float = CLOSING) -> None:
        """Stop looking; wait so many seconds for what is under way. What is known stays."""
