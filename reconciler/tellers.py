"""The reconcilers of a job class, as they are asked about single rows: where those are, and which row a job is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy.engine import result_tuple

from reconciler.definition import Definition
from reconciler.inverse import Inverse, Key, inverse
from reconciler.options import Shards


class Place(NamedTuple):
    """Where the rows of one reconciler, or of one of its shards, are."""

    name: str
    database: str
    shards: Shards | None
    shard: str


@dataclass(frozen=True, slots=True)
class Teller:
    """One reconciler of a job class."""

    definition: Definition
    inverse: Inverse | None
    """The way from a job's arguments to its row's key; None where it cannot be known."""

    def place(self, args: Sequence[Any]) -> Place:
        """Return where the row of such a job is."""
        shards = self.definition.shards
        shard = "" if shards is None or not args else str(args[0])
        return Place(self.definition.name, self.definition.database, shards, shard)

    def key(self, args: Sequence[Any]) -> Key | None:
        """Return the key of the row that such a job is of; None if this reconciler tells no such job."""
        return None if self.inverse is None else self.inverse.key_of(args)

    def own(self, row: Any) -> Any:
        """Return a row with the columns that the application has selected, without those that were added for passes."""
        shape = self.definition.shape
        if len(shape.labels) == shape.width:
            return row
        return result_tuple(shape.labels[: shape.width])(row[: shape.width])


@dataclass(frozen=True, slots=True)
class Tellers:
    """The reconcilers of one job class. One that opts out does so for all: nobody knows whose a job is."""

    definitions: tuple[Definition, ...]
    each: tuple[Teller, ...]
    known: bool
    """Whether the row of a job can be found, in all of them."""
    checked: bool
    progress: bool
    guarded: bool

    @classmethod
    def of(cls, definitions: tuple[Definition, ...]) -> Tellers:
        """Return what is known of the reconcilers of a class."""
        each = tuple(
            Teller(one, inverse(one.shape, one.facts, sharded=one.shards is not None))
            for one in definitions
        )
        known = bool(each) and all(one.inverse is not None for one in each)
        return cls(
            definitions,
            each,
            known,
            checked=known and all(one.recheck for one in definitions),
            progress=known and all(one.expect_progress for one in definitions),
            guarded=any(one.guard is not None for one in definitions),
        )
