"""From a job back to its row: which argument holds which column of the key. The inverse of what a pass does.

`args=` is any function, so it is tried with rows of markers, once per shape. The marker of a key column that comes back
unchanged says where that column went; a plain value says that rows of this reconciler have no other there. What is done
with other columns does not matter: they are stood for by objects that put up with it, each time another way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final

from sqlalchemy.engine import result_tuple

from reconciler.jobs import JobFacts
from reconciler.mapping import Marker
from reconciler.shape import Shape

Key = tuple[Any, ...]
_TRIALS: Final = 8
"""Rows that `args` is tried with: all ways to answer three questions."""


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
    found = [_tried(shape, job, int(sharded), trial) for trial in range(_TRIALS)]
    return found[0] if all(each == found[0] for each in found) else None


def _tried(shape: Shape, job: JobFacts, first: int, trial: int) -> Inverse | None:
    made = _made(shape, trial)
    if made is None:
        return None
    places: dict[int, int] = {}
    fixed, twins = [], []
    unique = {at for at, each in enumerate(job.parameters) if each.name in job.unique}
    for at, value in enumerate(made, start=first):
        if at not in unique:
            continue
        if type(value) is not Marker:
            if isinstance(value, _HIDING):
                return None
            fixed.append((at, value))
        elif value.at in places:
            twins.append((at, places[value.at]))
        else:
            places[value.at] = at
    if not set(shape.key) <= set(places):
        return None
    return Inverse(tuple(places[at] for at in shape.key), tuple(fixed), tuple(twins))


def _made(shape: Shape, trial: int) -> Sequence[Any] | None:
    """Return the arguments of a row of markers; None when `args` looks into those of the key."""
    if shape.args is None:
        return [Marker(at) for at in range(shape.width)]
    answers = cycle([bool(trial >> bit & 1) for bit in range(_TRIALS.bit_length() - 1)])
    other = Anything(answers, trial)
    row = [Marker(at) if at in shape.key else other for at in range(shape.width)]
    try:
        made: Any = shape.args(result_tuple(shape.labels[: shape.width])(row))
    except Exception:  # noqa: BLE001 - whatever an application's function may raise at a marker
        return None
    return made if isinstance(made, tuple) else None


class Anything:
    """Stands for a value that does not matter: whatever is done with it, another one comes out of it.

    Yes and no are `answers`, one after the other; as text and as a number it is another one in each trial, so that an
    argument which holds it is never taken for a constant.
    """

    __slots__ = ("_answers", "_trial")

    def __init__(self, answers: Iterator[bool], trial: int) -> None:
        self._answers = answers
        self._trial = trial

    def _same(self, *_: object, **__: object) -> Anything:
        return self

    def _answer(self, *_: object) -> bool:
        return next(self._answers)

    def _text(self, *_: object) -> str:
        return f"anything {self._trial}"

    def _number(self) -> int:
        return 1_000_003 + self._trial

    def __getattr__(self, name: str) -> Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __contains__ = _answer
    __str__ = __repr__ = __format__ = _text
    __int__ = __index__ = __hash__ = _number
    __call__ = __getitem__ = __neg__ = __abs__ = __round__ = _same
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _same
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __and__ = __or__ = _same

    def __float__(self) -> float:
        return float(self._number())

    def __iter__(self) -> Iterator[Anything]:
        return iter((self,))

    def __len__(self) -> int:
        return 1


_HIDING: Final = (Anything, list, tuple, dict, set, frozenset)
"""What may hide a marker."""


def _equal(one: object, other: object) -> bool:
    """Say whether two arguments are one value; a flag is no number."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)
