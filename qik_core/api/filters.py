"""The words by which people choose jobs: in programs, commands and pages alike.

    class:Billing::Charge state:retry error:TypeError args:42 -queue:low "card declined"

Every word must hold. `-` before one turns it round, quotes keep blanks and colons, `*` stands for any characters. A word
without a key is searched for, in any case, in everything that people see of a job.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from qik_core.api.record import JobRecord, State
from qik_core.errors import FilterError
from qik_core.options import did_you_mean

_TOKEN: Final = re.compile(
    r'\s*+(-?+)(?:([A-Za-z_]+):(?!:))?+("(?:[^"\\]|\\.)*"|[^\s"]\S*|(?=\s|$))', re.DOTALL
)
_PLAIN: Final = re.compile(r'[^\s"\-:]\S*')
_LONGEST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Term:
    """One word of a filter."""

    key: str
    """Empty for a text to search for."""
    value: str
    negated: bool = False

    def matches(self, job: JobRecord) -> bool:
        """Whether it holds for a job."""
        return _TESTS[self.key](self.value, job) is not self.negated

    def __str__(self) -> str:
        return f"{'-' if self.negated else ''}{self.key + ':' if self.key else ''}{self._quoted()}"

    def _quoted(self) -> str:
        plain = _PLAIN.fullmatch(self.value) is not None and (self.key or ":" not in self.value)
        if plain:
            return self.value
        return '"' + self.value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True, slots=True)
class Filter:
    """Words that must all hold; without any, every job does."""

    terms: tuple[Term, ...] = ()

    def __call__(self, job: JobRecord) -> bool:
        """Whether a job is meant."""
        return all(term.matches(job) for term in self.terms)

    def __str__(self) -> str:
        return " ".join(map(str, self.terms))

    @classmethod
    def parse(cls, text: str | Filter) -> Filter:
        """Return the filter that a person wrote.

        Raises:
            FilterError: an unknown key or state, a key without a value, an open quote.
        """
        if isinstance(text, Filter):
            return text
        if len(text) > _LONGEST:
            raise FilterError(f"a filter has up to {_LONGEST:,} characters, this one {len(text):,}")
        return cls(tuple(_terms(text)))


def _terms(text: str) -> Iterator[Term]:
    at, text = 0, text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.end() == at:
            raise FilterError(f"cannot read {text[at:].strip()!r:.80}: a quote is not closed")
        at = found.end()
        if at < len(text) and not text[at].isspace():
            raise FilterError(
                f"cannot read {text[found.start() :].strip()!r:.80}: put a blank behind the quote"
            )
        yield _checked(found[2], found[3], negated=bool(found[1]))


def _checked(key: str | None, value: str, *, negated: bool) -> Term:
    bare = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL) if value.startswith('"') else value
    if key is None:
        if not bare:
            raise FilterError("there is nothing to search for between the quotes, or behind the -")
        return Term("", bare, negated)
    if key not in _TESTS:
        raise FilterError(
            f"there is no key {key!r}{did_you_mean(key, KEYS)}. To search for a text with a colon, quote it"
        )
    if not bare:
        raise FilterError(f"{key}: has no value: write {key}:…, without a blank between")
    if key == "state" and bare not in set(State):
        raise FilterError(
            f"there is no state {bare!r:.80}{did_you_mean(bare, [each.value for each in State])}"
        )
    return Term(key, bare, negated)


# --- what the keys mean --------------------------------------------------------------------------


def _like(pattern: str, text: str) -> bool:
    first, *middle = pattern.split("*")
    if not middle:
        return pattern == text
    last, at = middle.pop(), len(first)
    for part in middle:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return text.startswith(first) and text.endswith(last) and len(text) - len(last) >= at


def _class(value: str, job: JobRecord) -> bool:
    return _like(value, job.class_name) or _like(value, job.display_class)


def _error(value: str, job: JobRecord) -> bool:
    name = job.error_class
    return _like(value, name) or _like(value, re.split(r"\.|::", name)[-1])


def _args(value: str, job: JobRecord) -> bool:
    return any(value == text for text in _scalars(job.display_args))


def _any(value: str, job: JobRecord) -> bool:
    return value.casefold() in seen_of(job).casefold()


_TESTS: Final[Mapping[str, Callable[[str, JobRecord], bool]]] = {
    "": _any,
    "args": _args,
    "class": _class,
    "error": _error,
    "jid": lambda value, job: _like(value, job.jid),
    "queue": lambda value, job: _like(value, job.queue),
    "state": lambda value, job: value == job.location.state.value,
    "tag": lambda value, job: any(_like(value, tag) for tag in job.tags),
}
KEYS: Final = tuple(key for key in _TESTS if key)
"""The keys that there are."""


def seen_of(job: JobRecord) -> str:
    """Return everything that people see of a job, as one text to search in."""
    if not job.fields:
        return job.raw.decode("utf-8", "replace") + "\n" + job.error
    parts = (
        job.jid, job.class_name, job.display_class, job.queue, job.error_class, job.error_message,
        msgspec.json.encode(job.display_args).decode(), *_scalars(job.display_args), *job.tags,
    )  # fmt: skip
    return "\n".join(parts)


def _scalars(value: Any) -> Iterator[str]:
    """Yield the simple values in arguments, at any depth, as a person writes them: 42, true, null, text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _scalars(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _scalars(each)
    else:
        yield msgspec.json.encode(value).decode()
