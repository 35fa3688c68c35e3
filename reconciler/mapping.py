"""Do the columns fit `perform`, and does the key map one to one onto the job's unique arguments?

If it did not, a pass and an application's own push of one row would not meet in one lock: two copies would run.

`args=` is any function. It is tried once with a row of markers: a marker that comes back says which column became which
argument. Where a marker was looked into (compared, formatted, computed with) nothing is known at import, and each page
is looked at instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NoReturn

from sqlalchemy import Select
from sqlalchemy.engine import result_tuple
from sqlalchemy.sql.elements import ColumnElement

from reconciler import columns
from reconciler.errors import Rule, broken
from reconciler.jobs import JobFacts, Parameter
from reconciler.pending import Pending

Element = ColumnElement[Any]


class Opaque(Exception):
    """A marker was looked into: what `args` does with this column cannot be known without a row."""


class Marker:
    """Stands for the value of one column while `args` is tried."""

    __slots__ = ("at",)

    def __init__(self, at: int) -> None:
        self.at = at

    def _refuse(self, *_: object) -> NoReturn:
        raise Opaque

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __str__ = __repr__ = _refuse
    __format__ = __int__ = __float__ = __index__ = __len__ = __iter__ = __getitem__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _refuse
    __truediv__ = __floordiv__ = __neg__ = __contains__ = __call__ = __hash__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        raise Opaque(name)


CONSTANT: Final = -1
"""Stands for an argument that no column decides."""

SHARD: Final = "shard"
"""The parameter that a pass fills with the name of the shard that it reads."""


def beside_shard(owner: str, job: JobFacts) -> JobFacts:
    """Return what of a job is left to the columns where rows are in shards: all but its first parameter, the shard.

    Raises:
        DefinitionError: it takes no shard first, or its lock leaves the shard out: the same id in two shards would be
            told as one job.
    """
    first = job.parameters[0] if job.parameters else None
    if first is None or first.name != SHARD or not _takes_text(first):
        raise broken(
            owner,
            Rule.SHARD,
            f"shards= is given, and {job.name}.{job.signature} does not begin with the shard",
            f"Write def perform(self, shard: str, …) in {job.name}: a pass fills it with the name of the shard",
        )
    if SHARD not in job.unique:
        raise broken(
            owner,
            Rule.SHARD,
            f"shard is no unique argument of {job.name}: the same id in two shards would be one job, and one row lost",
            f"Write unique_args={[SHARD, *job.unique]} on the job",
        )
    return replace(
        job,
        parameters=job.parameters[1:],
        unique=tuple(each for each in job.unique if each != SHARD),
    )


def _takes_text(parameter: Parameter) -> bool:
    return parameter.annotation in (str, Any)


def arguments_of(
    owner: str, pending: Pending[Any], job: JobFacts, query: Select[Any], key: Sequence[Element]
) -> bool:
    """Check that the arguments fit the job and that the key maps onto the unique ones; return whether both are proven.

    Raises:
        DefinitionError: they surely do not.
    """
    selected: list[Element] = list(query.selected_columns)
    sources = _sources(pending, selected)
    if sources is None:
        return False
    _check_count(owner, job, len(sources))
    if pending.args is None:
        _check_labels(owner, job, selected)
    for at, parameter in zip(sources, job.parameters, strict=False):
        if at != CONSTANT:
            _check_type(owner, parameter, selected[at], query)
    _check_key(owner, job, [selected[at] if at != CONSTANT else None for at in sources], key)
    return True


def _sources(pending: Pending[Any], selected: Sequence[Element]) -> list[int] | None:
    """Return for each argument the column that it comes from; None if that cannot be known."""
    if pending.args is None:
        return list(range(len(selected)))
    row = result_tuple([columns.name(each) for each in selected])(
        [Marker(at) for at in range(len(selected))]
    )
    try:
        made: Any = pending.args(row)
    except Exception:  # noqa: BLE001 - whatever an application's function may raise at a marker
        return None
    if not isinstance(made, tuple):
        return None
    found = [each.at if type(each) is Marker else _constant(each) for each in made]
    return None if None in found else [each for each in found if each is not None]


def _constant(value: object) -> int | None:
    """Return CONSTANT for a plain value; a container may hide a marker."""
    return CONSTANT if value is None or isinstance(value, (str, int, float, bool)) else None


def _check_count(owner: str, job: JobFacts, count: int) -> None:
    least = sum(each.required for each in job.parameters)
    if not least <= count <= len(job.parameters):
        raise broken(
            owner,
            Rule.COLUMNS,
            f"{count} arguments are derived and {job.name}.{job.signature} takes {_range(least, len(job.parameters))}",
            "Select one column for each parameter, or say args=lambda row: (...)",
        )


def _range(least: int, most: int) -> str:
    return str(most) if least == most else f"{least} to {most}"


def _check_labels(owner: str, job: JobFacts, selected: Sequence[Element]) -> None:
    names = [each.name for each in job.parameters]
    for at, column in enumerate(selected):
        label = columns.name(column)
        if label in names and names.index(label) != at:
            raise broken(
                owner,
                Rule.SWAPPED,
                f"column {label} stands in place {at}, where {job.name}.{job.signature} takes {names[at]}",
                "Select the columns in the order of the parameters, or say args=lambda row: (...)",
            )


def _check_type(owner: str, parameter: Parameter, column: Element, query: Select[Any]) -> None:
    name = columns.name(column)
    if not columns.fits(column, parameter.annotation):
        raise broken(
            owner,
            Rule.COLUMNS,
            f"column {name} is {column.type!r}, perform's {parameter.name} takes {_shown(parameter.annotation)}",
            "Select the column that is meant, correct the annotation, or convert it with args=",
        )
    if columns.nullable(column, query) and not columns.takes_none(parameter.annotation):
        raise broken(
            owner,
            Rule.COLUMNS,
            f"column {name} may be NULL, perform's {parameter.name} takes {_shown(parameter.annotation)}",
            f"Annotate it as `| None`, or select func.coalesce({name}, value)",
        )


def _check_key(
    owner: str, job: JobFacts, arguments: Sequence[Element | None], key: Sequence[Element]
) -> None:
    unique = [
        column
        for column, parameter in zip(arguments, job.parameters, strict=False)
        if column is not None and parameter.name in job.unique
    ]
    lacking = [each for each in key if columns.position(each, unique) is None]
    foreign = [each for each in unique if columns.position(each, list(key)) is None]
    if lacking:
        raise broken(
            owner,
            Rule.KEY_MAPS,
            f"key column {_names(lacking)} is no unique argument of {job.name}: rows with different keys would share one lock",
            "Make it an argument of the job, or choose another key=",
        )
    if foreign:
        raise broken(
            owner,
            Rule.KEY_MAPS,
            f"{_names(foreign)} is a unique argument of {job.name} and not in the key: "
            "a row whose value changed would get a second lock and a second job",
            f"Leave it out of the lock with unique_args={_keys(arguments, job, key)} on the job, or put it into key=",
        )


def _keys(arguments: Sequence[Element | None], job: JobFacts, key: Sequence[Element]) -> list[str]:
    pairs = zip(arguments, job.parameters, strict=False)
    return [
        parameter.name
        for column, parameter in pairs
        if column is not None and columns.position(column, list(key)) is not None
    ]


def _names(found: Sequence[Element]) -> str:
    return ", ".join(map(columns.name, found))


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
