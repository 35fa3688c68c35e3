"""What every provider said last, kept on disk for a start at which none of them answers."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from qik_core.errors import BadSnapshot
from reconciler.switches.kept import Kept, NotKept
from reconciler.switches.provider import Rules
from reconciler.switches.rules import all_same, of_plain, plain

log: Final = logging.getLogger("reconciler")

_FORM: Final = 1


class Remembered:
    """What was known last, by provider. Raises nothing: a process works without its file, and says so once."""

    def __init__(self, kept: Kept | None = None) -> None:
        self.known: Mapping[str, Rules] = {}
        self._kept = kept
        self._said = ""

    def load(self) -> None:
        """Read what was kept; a file that is not ours, or not what `keep` writes, is left alone."""
        try:
            raw = None if self._kept is None else self._kept.load()
            if raw is not None:
                self.known = _read(raw)
        except NotKept as error:
            self._say(str(error))
        except (BadSnapshot, TypeError, ValueError, RecursionError) as error:
            self._say(f"{self._kept and self._kept.path} is not what was kept: {error}")

    def keep(self, known: Mapping[str, Rules]) -> None:
        """Keep what is known now, if it is not what was."""
        if known.keys() == self.known.keys() and all(
            all_same(rules, self.known[source]) for source, rules in known.items()
        ):
            return
        self.known = dict(known)
        try:
            if self._kept is not None:
                self._kept.save(_written(known))
        except NotKept as error:
            self._say(str(error))

    def _say(self, problem: str) -> None:
        if problem != self._said:
            log.warning("switches are not kept over a restart", extra={"reason": problem})
        self._said = problem


def _written(known: Mapping[str, Rules]) -> bytes:
    sources = {
        source: {flag: [plain(each) for each in found] for flag, found in rules.items()}
        for source, rules in known.items()
    }
    return json.dumps({"form": _FORM, "sources": sources}).encode()


def _read(raw: bytes) -> dict[str, Rules]:
    value: Any = json.loads(raw)
    if not isinstance(value, dict) or value.get("form") != _FORM:
        raise ValueError("it has another form")
    sources: Any = value.get("sources")
    if not isinstance(sources, dict) or not all(
        isinstance(each, dict) for each in sources.values()
    ):
        raise ValueError("it has no sources")
    return {
        source: {flag: tuple(of_plain(each) for each in found) for flag, found in rules.items()}
        for source, rules in sources.items()
    }
