"""From a job back to its row: which argument holds which column of the key. The inverse of what a pass does.

`args=` is any function, so it is tried with a row of markers, once per shape. A marker that comes back unchanged says
where its column went; a plain value says that rows of this reconciler have no other there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.engine import result_tuple

from reconciler.jobs import JobFacts
from reconciler.mapping import Marker
from reconciler.shape import Shape

Key = tuple[Any, ...]
_CONTAINERS: Final = (list, tuple, dict, set, frozenset)
"""What may hide a marker."""


@dataclass(frozen=True, slots=True)
class Inverse:
    """How to find the key of a row in the arguments of its job."""

    key: tuple[int, ...]
    """The argument that holds each column of the key."""
    fixed: tuple[tuple[int, Any], ...]
    """Unique arguments that are the same for all rows: a job with another value has no row here."""
    twins: tuple[tuple[int, int], ...]
    """Unique arguments that hold a column of the key once more: a job in which they differ has no row here."""

    def key_of(self, args: Sequence[Any]) -> Key | None:
        """Return the key of the row that such a job would be of; None if this reconciler tells no such job."""
        for at, value in self.fixed:
            if at < len(args) and not _equal(args[at], value):
                return None
        for at, first in self.twins:
            if not _equal(args[at], args[first]):
                return None
        return tuple(args[at] for at in self.key)


def inverse(shape: Shape, job: JobFacts, *, sharded: bool = False) -> Inverse | None:
    """Return the way back from the arguments of a job to the key of its row; None if it cannot be known.

    With shards the job's first parameter is the shard, which no column holds.
    """
    made = _made(shape)
    if made is None:
        return None
    first = int(sharded)
    places: dict[int, int] = {}
    fixed, twins = [], []
    unique = {at for at, each in enumerate(job.parameters) if each.name in job.unique}
    for at, value in enumerate(made, start=first):
        if at not in unique:
            continue
        if type(value) is not Marker:
            if isinstance(value, _CONTAINERS):
                return None
            fixed.append((at, value))
        elif value.at in places:
            twins.append((at, places[value.at]))
        else:
            places[value.at] = at
    if not set(shape.key) <= set(places):
        return None
    return Inverse(tuple(places[at] for at in shape.key), tuple(fixed), tuple(twins))


def _made(shape: Shape) -> Sequence[Any] | None:
    """Return the arguments of a row of markers; None when `args` looks into them."""
    markers = [Marker(at) for at in range(shape.width)]
    if shape.args is None:
        return markers
    try:
        made: Any = shape.args(result_tuple(shape.labels[: shape.width])(markers))
    except Exception:  # noqa: BLE001 - whatever an application's function may raise at a marker
        return None
    return made if isinstance(made, tuple) else None


def _equal(one: object, other: object) -> bool:
    """Say whether two arguments are one value; a flag is no number."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)
