"""What somebody asks of a page, and what a page answers: bounded parameters in, plain data out.

A page is a function `Ask -> View`. Its data is shown by a template, or sent as JSON as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import parse_qsl

from qik_core.errors import ArgumentError, FilterError, QikError, StoreError, WrongType
from qik_core.store import Store
from qik_core.web.access import LONGEST_NAME, Access
from qik_core.web.showing import Shower

log: Final = logging.getLogger("qik_core.web")

MOST_FIELDS: Final = 300
MOST_BODY: Final = 65_536
MOST_QUERY: Final = 8_192
NO_REDIS: Final = 503


class Problem(QikError):
    """What was asked cannot be answered. The message is shown."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def problem_of(error: QikError) -> Problem:
    """Return what is said of an error instead of a page."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, WrongType):
        return Problem(409, str(error))
    if isinstance(error, StoreError):
        return Problem(NO_REDIS, f"Redis does not answer: {error}")
    if isinstance(error, (FilterError, ArgumentError)):
        return Problem(400, str(error))
    log.error("a page failed", exc_info=error)
    return Problem(500, "this cannot be answered: the log of the dashboard says why")


class Param(NamedTuple):
    """A parameter: what it means, and how long it may be; a number has a range."""

    told: str
    longest: int
    numbers: tuple[int, int] | None = None


PARAMS: Final[Mapping[str, Param]] = {
    "where": Param("A filter: see the reference of qik_core.api.", 2_000),
    "after": Param("Where the page begins: `after` of the page before.", 80),
    "count": Param("How many jobs.", 3, (1, 100)),
    "place": Param(
        "scheduled, retries, dead, queue:NAME, later:NAME, suspects:NAME, held:CLASS.", 320
    ),
    "mark": Param("Which job exactly: `mark` of a page.", 60),
    "jid": Param("A job's id.", 64),
    "queue": Param("A queue's name.", 128),
    "verb": Param("What to do.", 20),
    "identity": Param("A process; empty: all.", 300),
    "sure": Param("`yes`: do it; else say how many it would be.", 3),
    "job": Param("One job: its mark, a blank, its id. Can be repeated.", 140),
    "reason": Param("Why, for the audit and for others.", 1_000),
    "reconciler": Param("A reconciler's name.", 100),
    "shard": Param("One of its shards.", 100),
    "class": Param("A job class.", 200),
    "minutes": Param("How far back, in minutes; more than 60 are counted in tens.", 3, (1, 480)),
    "row": Param("A row: the digest of its key.", 32),
    "state": Param("waiting or quarantined; empty: both.", 20),
    "switch": Param("A job class, a reconciler, queue:NAME, or a switch by its own name.", 220),
    "expires": Param("For so long, as 30min, 2h, 1d; empty: until somebody changes it.", 20),
    "percent": Param("Stop so many percent of the keys, always the same ones; empty: all.", 8),
    "tenants": Param("Stop only these tenants, one a line; empty: all.", 5_000),
    "keys": Param("Stop only these keys, one a line; empty: all.", 5_000),
    "cancel": Param("`yes`: jobs that run already are asked to stop.", 3),
    "since": Param("How far back, as 90s, 15min, 2h, 3d.", 20),
    "everything": Param("`yes`: all jobs are meant.", 3),
    "set": Param("queued, schedule, retry, dead or held.", 20),
    "tenant": Param("A tenant, as its reconciler says whose a row is.", 200),
    "plan": Param("`number` of the plan that was shown.", 20),
    "word": Param("`word` of the plan, written by a person who means it.", 220),
    "lose": Param("A job class whose jobs may be lost. Can be repeated.", 200),
    "rate": Param("Rows to tell, as 500/s, 10000/min, or max.", 20),
    "override": Param("`yes`: tell what the switch of a reconciler stops, too.", 3),
    "csrf": Param("The token of the form.", 64),
    "password": Param("The password.", 300),
    "name": Param("Who logs in, for logs and the audit; need not be said.", LONGEST_NAME),
}


def fields_of(text: str, longest: int) -> dict[str, list[str]]:
    """Return the fields of a query or a form, each value no longer than it may be.

    Raises:
        Problem: too long, too many, or a value that is.
    """
    if len(text) > longest:
        raise Problem(
            414 if longest == MOST_QUERY else 413, f"this is longer than {longest:,} bytes"
        )
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, errors="replace", max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise Problem(400, f"there are more than {MOST_FIELDS} fields") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name in PARAMS:
            found.setdefault(name, []).append(checked(name, value))
    return found


def checked(name: str, value: str) -> str:
    """Return the value of a parameter.

    Raises:
        Problem: it is too long, or has a character that no text of people has.
    """
    if len(value) > PARAMS[name].longest:
        raise Problem(
            400, f"{name} has {len(value):,} characters: use up to {PARAMS[name].longest:,}"
        )
    if "\0" in value:
        raise Problem(400, f"{name} has a character that no text has")
    return value


Behind: TypeAlias = Callable[[str, Callable[[], str]], tuple[bool, str]]
"""Does what may outlast its page: what it is, and the act, which returns what came of it. Says whether it has ended, and what."""


def _at_once(_: str, act: Callable[[], str]) -> tuple[bool, str]:
    return True, act()


@dataclass(frozen=True, slots=True)
class Ask:
    """What somebody asks."""

    store: Store
    access: Access
    shower: Shower
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, Sequence[str]] = field(default_factory=dict)
    behind: Behind = _at_once
    name: str = ""
    """Of who asks; empty: nobody said."""

    @property
    def who(self) -> str:
        """Who it is, for logs and the audit: so that nobody takes a name that was said here for one of a machine."""
        return f"{self.name} (dashboard)" if self.name else "dashboard"

    def text(self, name: str) -> str:
        """Return a parameter, from the path, the form or the query; empty without one."""
        if name in self.path:
            return checked(name, self.path[name])
        values = self.form.get(name) or self.query.get(name) or ("",)
        return values[-1]

    def texts(self, name: str) -> Sequence[str]:
        """Return every value of a field of a form."""
        return self.form.get(name, ())

    def number(self, name: str, default: int) -> int:
        """Return a whole number in its range.

        Raises:
            Problem: it is none.
        """
        text, numbers = self.text(name), PARAMS[name].numbers or (0, 0)
        if not text:
            return default
        if not (text.isascii() and text.isdigit()) or not numbers[0] <= int(text) <= numbers[1]:
            raise Problem(400, f"{name} is {text!r}: use {numbers[0]} to {numbers[1]}")
        return int(text)


@dataclass(frozen=True, slots=True)
class View:
    """What a page answers."""

    template: str
    title: str
    data: Mapping[str, Any]
    status: int = 200
