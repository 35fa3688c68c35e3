"""The rows of a page as jobs: their arguments, the keys of their locks, their versions; rows that cannot travel set aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from qik_core.errors import ArgumentError, DefinitionError
from reconciler.definition import Definition

_TAG: Final = 6

Args = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Invalid:
    """A row that cannot be told."""

    key: tuple[Any, ...]
    error: ArgumentError

    def __str__(self) -> str:
        return f"{self.key!r:.100}: {self.error}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows, and what they are as jobs; all aligned."""

    rows: Sequence[Any]
    args: Sequence[Args]
    digests: Sequence[bytes]
    tags: Sequence[str] | None
    """The versions of the rows as the lock records have them; None for a reconciler without."""
    due: Sequence[float] | None = None
    """Seconds until each job is due; None for rows that do not say."""

    def __len__(self) -> int:
        return len(self.rows)

    def pick(self, places: Sequence[int]) -> Batch:
        """Return the rows at these places, in this order."""
        if len(places) == len(self.rows) and all(map(int.__eq__, places, range(len(places)))):
            return self
        return Batch(
            [self.rows[at] for at in places],
            [self.args[at] for at in places],
            [self.digests[at] for at in places],
            None if self.tags is None else [self.tags[at] for at in places],
            None if self.due is None else [self.due[at] for at in places],
        )


def batch(definition: Definition, rows: Sequence[Any]) -> tuple[Batch, list[Invalid]]:
    """Return the rows as jobs, and those whose arguments cannot travel: one must not stop the others.

    Raises:
        DefinitionError: keys and locks are not one to one; nothing at import could say so.
    """
    args: Sequence[Args] = definition.arguments(rows)
    invalid: list[Invalid] = []
    try:
        digests = _digests(definition, args)
    except ArgumentError:
        rows, args, digests, invalid = _one_by_one(definition, rows, args)
    if not definition.shape.proven:
        _check_keys(definition, rows, digests)
    at = definition.shape.version
    tags = None if at is None else [tag(row[at]) for row in rows]
    return Batch(rows, args, digests, tags), invalid


def tag(version: object) -> str:
    """Return a row's version as the lock record has it: 6 characters that stand for the value."""
    return blake2b(f"{type(version).__name__}:{version}".encode(), digest_size=4).hexdigest()[:_TAG]


def key_of(definition: Definition, row: Any) -> tuple[Any, ...]:
    """Return the key of a row."""
    return tuple(row[at] for at in definition.shape.key)


def _digests(definition: Definition, args: Sequence[Args]) -> list[bytes]:
    found: list[bytes] = definition.job.definition.digests(args)
    return found


def _one_by_one(
    definition: Definition, rows: Sequence[Any], args: Sequence[Args]
) -> tuple[list[Any], list[Args], list[bytes], list[Invalid]]:
    good: list[tuple[Any, Args, bytes]] = []
    invalid = []
    for row, each in zip(rows, args, strict=True):
        try:
            good.append((row, each, _digests(definition, [each])[0]))
        except ArgumentError as error:
            invalid.append(Invalid(key_of(definition, row), error))
    return (
        [row for row, *_ in good],
        [each for _, each, _ in good],
        [one for *_, one in good],
        invalid,
    )


def _check_keys(definition: Definition, rows: Sequence[Any], digests: Sequence[bytes]) -> None:
    """Look whether keys and locks are one to one where nothing at import could prove it."""
    pairs = {(key_of(definition, row), digest) for row, digest in zip(rows, digests, strict=True)}
    if not len(pairs) == len({key for key, _ in pairs}) == len({digest for _, digest in pairs}):
        raise DefinitionError(
            f"{definition.name}: args= does not map the key one to one onto the unique arguments of "
            f"{definition.facts.name}: two keys share a lock, or one key has two. Return every key column "
            "from args= unchanged, and name the parameters that hold them in unique_args="
        )
