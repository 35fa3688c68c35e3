"""Switches from a file, TOML or JSON, that is looked at four times a second.

A file that is half written, empty, gone or garbage changes nothing: what was known last holds, and it is said why. An entry
that no database can keep is left out alone. It is read once it has been left alone from one look to the next, since the first
half of a TOML file often is a TOML file.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import stat
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any, Final

from qik_core.switches import Condition, Field, Operator, Rule
from reconciler.periodic import Periodic
from reconciler.switches.fitting import fitting
from reconciler.switches.provider import CLOSING, Rules, Source
from reconciler.words import meant

log: Final = logging.getLogger("reconciler")

LOOK: Final = 0.25
"""Seconds between two looks."""
LARGEST: Final = 1_000_000
_FLAG: Final = "disable_"
_FILE: Final = Source.FILE.value
_CONDITIONS: Final[Mapping[str, tuple[Field, Operator]]] = {
    **{str(each): (each, Operator.IN) for each in Field},
    **{f"not_{each}": (each, Operator.NOT_IN) for each in Field},
}
_UNREAD: Final = "it was not read yet"
_KEYS: Final = ("percent", "reason", "who", "expires", *_CONDITIONS)
_Stamp = tuple[int, int, int, int]


class BadFile(ValueError):
    """The file says what no switch can be. The message says where and what to write."""


class File:
    """The provider `file`. Its state is written by one thread, and read by any.

    `flags` returns those of the application, if they are known: any other one stops nothing, and is said so.
    """

    def __init__(
        self,
        path: Path,
        flags: Callable[[], Collection[str]] = tuple,
        now: Callable[[], float] = time,
    ) -> None:
        self.name = _FILE
        self._path = path
        self._flags = flags
        self._strays: list[str] = []
        self._now = now
        self._rules: Rules | None = None
        self._problem = _UNREAD
        self._seen: _Stamp | None = None
        self._read: _Stamp | None = None
        self._changed: Callable[[], None] = lambda: None
        self._thread = Periodic("switches-file", LOOK, self.look)

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to look."""
        self._changed = changed
        self._thread.start()

    def rules(self) -> Rules | None:
        """Return what the file said when it was read last."""
        return self._rules

    def health(self) -> str:
        """Return why that may be old, which entries are left out, and which flags stop nothing."""
        old = self._problem and f"{self._path}: {self._problem}; what it said before holds"
        return "; ".join(each for each in (old, *self._strays) if each)

    def close(self, seconds: float = CLOSING) -> None:
        """Stop looking."""
        self._thread.stop(seconds)

    def look(self) -> None:
        """Read the file if it has changed, and has been left alone since the look before."""
        try:
            seen = _stamp(self._path)
        except OSError as error:
            self._seen = self._read = None
            self._say(error.strerror or str(error))
            return
        quiet = seen == self._seen or self._now() - seen[1] / 1e9 > 2 * LOOK
        self._seen = seen
        if seen == self._read or not quiet:
            return
        self._take(seen)

    def _take(self, seen: _Stamp) -> None:
        try:
            said = parse(_text(self._path), json_=self._path.suffix.lower() == ".json")
        except (OSError, ValueError, RecursionError) as error:
            self._read = seen  # it is read again when it has changed
            self._say(" ".join(str(error).split()))
            return
        if _stamp(self._path) != seen:
            return  # it was written while it was read
        self._read = seen
        self._say("")
        found, refused = fitting(said, self._rules or {})
        self._warn(found, refused)
        if found != self._rules:
            self._rules = found
            log.info("switches read", extra={"file": str(self._path), "switches": len(found)})
            self._changed()

    def _warn(self, found: Rules, refused: list[str]) -> None:
        """Say which entries are left out, and of flags that are none of this application's which ones may be meant."""
        known = self._flags()
        strange = sorted(found.keys() - set(known)) if known else ()
        self._strays = refused + [
            f"{flag} stops nothing here{meant(flag, known)}" for flag in strange
        ]
        for each in self._strays:
            log.warning("a switch of the file: %s", each, extra={"file": str(self._path)})

    def _say(self, problem: str) -> None:
        before, self._problem = self._problem, problem
        if problem and problem != before:
            log.warning(
                "the file of switches is not taken: what it said before holds",
                extra={"file": str(self._path), "reason": problem},
            )
        elif before not in ("", problem, _UNREAD):
            log.info("the file of switches is taken again", extra={"file": str(self._path)})


def _stamp(path: Path) -> _Stamp:
    seen = path.stat()
    if not stat.S_ISREG(seen.st_mode):
        raise OSError(errno.EINVAL, "it is no plain file")
    return seen.st_ino, seen.st_mtime_ns, seen.st_size, seen.st_ctime_ns


def _text(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise BadFile(f"it has more than {LARGEST:,} bytes")
    return raw.decode("utf-8")


def parse(text: str, *, json_: bool) -> Rules:
    """Return the rules that a file says.

    Raises:
        BadFile: the first entry that no switch can be, and what to write.
        ValueError: it is no TOML, or no JSON.
    """
    if not text.strip():
        raise BadFile(
            "it is empty: if nothing is to be off, say so in a comment (TOML), or write {}"
        )
    table = json.loads(text) if json_ else tomllib.loads(text)
    if not isinstance(table, dict):
        raise BadFile("it is no table of switches: write disable_charge_invoice = true")
    found = {flag: _rules(flag, value) for flag, value in table.items()}
    return {flag: rules for flag, rules in found.items() if rules}


def _rules(flag: str, value: Any) -> tuple[Rule, ...]:
    if not flag.startswith(_FLAG):
        raise BadFile(f"{flag!r:.80} is no switch: its name begins with {_FLAG}")
    entries = value if isinstance(value, list) else [value]
    return tuple(_rule(flag, each) for each in entries if each is not False)


def _rule(flag: str, value: Any) -> Rule:
    if value is True:
        return Rule(source=_FILE)
    if isinstance(value, str):
        return Rule(source=_FILE, reason=value)
    if not isinstance(value, dict):
        raise BadFile(f"{flag} is {value!r:.80}: use true, false, a text that says why, or a table")
    for key in value:
        if key not in _KEYS:
            raise BadFile(f"{flag}: there is no {key!r:.80}{meant(key, _KEYS)}")
    return Rule(
        percent=_percent(flag, value.get("percent", 100)),
        where=tuple(
            Condition(field, operator, _values(flag, name, value[name]))
            for name, (field, operator) in _CONDITIONS.items()
            if name in value
        ),
        source=_FILE,
        who=_word(flag, "who", value),
        reason=_word(flag, "reason", value),
        expires_at=_moment(flag, value.get("expires")),
    )


def _percent(flag: str, value: Any) -> float:
    if type(value) in (int, float) and 0 < value <= 100:  # noqa: PLR2004 - percent
        return float(value)
    raise BadFile(
        f"{flag}: percent is {value!r:.80}: use more than 0 and up to 100 (of keys, stopped)"
    )


def _values(flag: str, name: str, value: Any) -> tuple[str, ...]:
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    if values and all(type(each) in (str, int) for each in values):
        return tuple(map(str, values))
    raise BadFile(f"{flag}: {name} is {value!r:.80}: use a text, or a list of texts")


def _word(flag: str, name: str, value: Mapping[str, Any]) -> str:
    word = value.get(name, "")
    if isinstance(word, str):
        return word
    raise BadFile(f"{flag}: {name} is {word!r:.80}: use a text")


def _moment(flag: str, value: Any) -> float | None:
    """Return a moment as epoch seconds: of TOML, of an ISO text, or a number; without a zone it is UTC."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if value is None or type(value) in (int, float):
        return None if value is None else _seconds(value)
    raise BadFile(f"{flag}: expires is {value!r:.80}: use a moment, as 2026-11-22T18:00:00Z")


def _seconds(value: float) -> float:
    """Return a number as a float: TOML and JSON have integers beyond them."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
