"""The arguments of one job class: bound, checked and written at push; read back before `perform`.

Defaults are bound before anything else, so that `f(7)` and `f(7, False)` are one payload and one key. Many jobs are
checked by column, in C where the types are plain; only a column with something wrong in it is looked at value by value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import msgspec

from qik_core import strict
from qik_core.annotations import codec_of, hints_of
from qik_core.codecs import Codec
from qik_core.errors import ArgumentError, DefinitionError

_MISSING: Final = inspect.Parameter.empty
_encoder = msgspec.json.Encoder()
encode_row: Final[Callable[[Sequence[Any]], bytes]] = _encoder.encode
"""The JSON of written arguments."""
_REFUSED_KINDS: Final[Mapping[Any, str]] = {
    inspect.Parameter.KEYWORD_ONLY: "is keyword-only: arguments travel by position, remove the `*` before it",
    inspect.Parameter.VAR_POSITIONAL: "takes any number of arguments: take one list[…] instead",
    inspect.Parameter.VAR_KEYWORD: "takes any keywords: take one dict[str, Any] instead",
}


class RowError(ArgumentError):
    """One item of many cannot travel. `index` counts from the start of the rows that were given."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(f"item {index}: {message}")
        self.index = index
        self.message = message

    def moved(self, by: int) -> RowError:
        """Return the same error, counted from the start of a longer input."""
        return RowError(self.index + by, self.message)


class Untyped:
    """The arguments of a job that this process does not define, as one of Ruby's: any number, any strict JSON."""

    __slots__ = ("owner",)

    def __init__(self, owner: str) -> None:
        self.owner = owner

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the arguments as they are.

        Raises:
            ArgumentError: keywords, which cannot be put in order without a signature.
        """
        if kwargs:
            raise ArgumentError(
                f"{self.owner} is not defined here: keywords have no place, give its arguments in order"
            )
        return tuple(args)

    def dump(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """Return the arguments of one job, checked.

        Raises:
            ArgumentError: keywords, or something that JSON cannot carry.
        """
        checked = list(self.bind(args, kwargs))
        strict.check(checked, f"{self.owner}: args", strict.DEPTH + 1)
        return checked

    def dump_rows(self, rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
        """Return the arguments of many jobs, checked.

        Raises:
            RowError: a row that JSON cannot carry.
        """
        checked: list[Sequence[Any]] = []
        for index, row in enumerate(rows):
            try:
                checked.append(self.dump(_row(row), {}))
            except ArgumentError as error:
                raise RowError(index, str(error)) from None
        return checked

    def keys(
        self, rows: Sequence[Sequence[Any]], _encoded: Sequence[bytes] | None = None
    ) -> Sequence[bytes]:
        """Return for each row the bytes that make it unique; keys are sorted in them, unlike in the payload."""
        return [strict.canonical(row) for row in rows]

    def load(self, args: Sequence[Any]) -> list[Any]:
        """Return the arguments as they are."""
        return list(args)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of `perform`."""

    name: str
    codec: Codec
    default: Any
    path: str
    """How an error names it: `Charge: args[0] (invoice_id)`."""

    @property
    def required(self) -> bool:
        """It has no default."""
        return self.default is _MISSING


class Arguments:
    """The parameters of one `perform`, in order.

    Annotations are looked up at definition; those that name something defined further down, at the first use.
    """

    __slots__ = (
        "_find",
        "_loads",
        "_ordered",
        "_parameters",
        "_unique",
        "defaults",
        "least",
        "names",
        "owner",
    )

    def __init__(
        self,
        owner: str,
        parameters: Sequence[inspect.Parameter],
        find: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.owner = owner
        self.names: tuple[str, ...] = tuple(each.name for each in parameters)
        self.defaults: tuple[Any, ...] = tuple(each.default for each in parameters)
        self.least = sum(default is _MISSING for default in self.defaults)
        self._find = find
        self._unique: tuple[int, ...] | None = None
        self._parameters: tuple[Parameter, ...] | None = None
        self._loads: tuple[tuple[Callable[[Any, str], Any], str], ...] = ()
        self._ordered: bool | None = None

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        owner: str,
        *,
        method: bool = False,
        local: Mapping[str, Any] | None = None,
        unique: Sequence[str] | None = None,
    ) -> Arguments:
        """Return the arguments of a function.

        `method` leaves out the first parameter; `local` are names that annotations may use besides the module's;
        `unique` are the parameters that make a job unique, all of them by default.

        Raises:
            DefinitionError: a parameter that cannot travel by position, or whose type cannot travel.
        """
        parameters = list(inspect.signature(function).parameters.values())[1 if method else 0 :]
        for each in parameters:
            if each.kind in _REFUSED_KINDS:
                raise DefinitionError(
                    f"{owner}: parameter {each.name!r} {_REFUSED_KINDS[each.kind]}"
                )
        annotations = {
            each.name: each.annotation for each in parameters if each.annotation is not _MISSING
        }
        self = cls(owner, parameters, lambda: hints_of(annotations, function, local or {}))
        self._narrow(unique)
        try:
            self._resolve()
        except NameError:
            self._parameters = None  # defined further down in its module: found at the first use
        return self

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters with their codecs.

        Raises:
            DefinitionError: an annotation names what does not exist when it is needed.
        """
        if self._parameters is None:
            try:
                self._resolve()
            except NameError as error:
                raise DefinitionError(
                    f"{self.owner}: an annotation of perform cannot be looked up ({error}): "
                    "import it at run time, not under TYPE_CHECKING, at the top of the module"
                ) from None
        assert self._parameters is not None  # noqa: S101 - _resolve has set it
        return self._parameters

    @property
    def signature(self) -> str:
        """The parameters as an error shows them."""
        shown = (
            name if default is _MISSING else f"{name}={default!r:.20}"
            for name, default in zip(self.names, self.defaults, strict=True)
        )
        return f"({', '.join(shown)})"

    @property
    def unique(self) -> tuple[str, ...]:
        """The names of the parameters that make a job unique: all of them, unless `unique_args` says fewer."""
        return self.names if self._unique is None else tuple(self.names[at] for at in self._unique)

    # --- push ----------------------------------------------------------------

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return one value per parameter, defaults filled in.

        Raises:
            ArgumentError: too few, too many, unknown or doubly given.
        """
        if not kwargs and len(args) == len(self.names):
            return tuple(args)
        if len(args) > len(self.names):
            raise self._arity(f"{len(args)} arguments were given")
        bound = dict(zip(self.names, args, strict=False))
        for name, value in kwargs.items():
            if name not in self.names:
                raise self._arity(f"there is no parameter {name!r:.80}")
            if name in bound:
                raise self._arity(f"{name!r} was given twice")
            bound[name] = value
        values = tuple(
            bound.get(name, default)
            for name, default in zip(self.names, self.defaults, strict=True)
        )
        missing = [
            name for name, value in zip(self.names, values, strict=True) if value is _MISSING
        ]
        if missing:
            raise self._arity(f"{', '.join(missing)} is missing")
        return values

    def dump(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """Return the arguments of one job as JSON has them.

        Raises:
            ArgumentError: they do not fit, or cannot travel.
        """
        values = self.bind(args, kwargs)
        return [
            _dump(parameter, value)
            for parameter, value in zip(self.parameters, values, strict=True)
        ]

    def dump_rows(self, rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """Return the arguments of many jobs as JSON has them, defaults filled in.

        Raises:
            ArgumentError: a row does not fit; the message begins with the row's index in `rows`.
        """
        try:
            return self._dump_columns(self._fill(rows))
        except ArgumentError:
            for index, row in enumerate(rows):
                try:
                    self.dump(_row(row), {})
                except ArgumentError as error:
                    raise RowError(index, str(error)) from None
            raise

    def keys(
        self, rows: Sequence[Sequence[Any]], encoded: Sequence[bytes] | None = None
    ) -> Sequence[bytes]:
        """Return for each row of written arguments the bytes that make it unique. `encoded` spares work when at hand."""
        every = self._unique is None
        chosen = rows if every else [self._pick(row) for row in rows]
        if self._ordered is None:
            places = self._unique or range(len(self.names))
            self._ordered = all(self.parameters[place].codec.ordered for place in places)
        if self._ordered:
            return (
                encoded
                if every and encoded is not None
                else _encoder.encode_lines(chosen).split(b"\n")[:-1]
            )
        return [strict.canonical(row) for row in chosen]

    # --- perform -------------------------------------------------------------

    def load(self, args: Sequence[Any]) -> list[Any]:
        """Return the arguments for `perform` from those of a payload, defaults filled in.

        Raises:
            ArgumentError: too few or too many, or a value that is not of the annotated type.
        """
        if not self._loads:
            self._loads = tuple((each.codec.load, each.path) for each in self.parameters)
        given = len(args)
        if given == len(self.names):  # by far the most frequent: defaults are filled in at the push
            return [
                load(value, path) for (load, path), value in zip(self._loads, args, strict=True)
            ]
        values = self.bind(args, {})
        return [
            load(value, path) if place < given else value
            for place, ((load, path), value) in enumerate(zip(self._loads, values, strict=True))
        ]

    # --- inside --------------------------------------------------------------

    def _resolve(self) -> None:
        hints = self._find()
        self._parameters = tuple(
            Parameter(
                name,
                codec_of(hints.get(name, Any), f"{self.owner}: parameter {name!r}"),
                default,
                f"{self.owner}: args[{place}] ({name})",
            )
            for place, (name, default) in enumerate(zip(self.names, self.defaults, strict=True))
        )
        for each in self._parameters:
            if not each.required:
                self._check_default(each)

    def _check_default(self, parameter: Parameter) -> None:
        try:
            _dump(parameter, parameter.default)
        except ArgumentError as error:
            raise DefinitionError(f"{error} (it is the default of {parameter.name!r})") from None

    def _narrow(self, unique: Sequence[str] | None) -> None:
        if unique is None:
            return
        for name in unique:
            if name not in self.names:
                raise DefinitionError(
                    f"{self.owner}: unique_args names {name!r}; perform takes {self.signature}"
                )
        self._unique = tuple(place for place, name in enumerate(self.names) if name in unique)

    def _pick(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(row[place] for place in self._unique or ())

    def _fill(self, rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        kinds = set(map(type, rows))
        if not kinds <= {tuple, list}:
            rows = [_row(row) for row in rows]
        lengths = set(map(len, rows))
        if lengths == {len(self.names)}:
            return rows
        if len(lengths) == 1 and self.least <= min(lengths) < len(self.names):
            tail = self.defaults[min(lengths) :]
            return [(*row, *tail) for row in rows]
        return [self.bind(row, {}) for row in rows]

    def _dump_columns(self, rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        if not self.names:
            return [() for _ in rows]
        columns = [
            self._column(parameter, list(map(itemgetter(place), rows)))
            for place, parameter in enumerate(self.parameters)
        ]
        return list(zip(*columns, strict=True))

    @staticmethod
    def _column(parameter: Parameter, values: Sequence[Any]) -> Sequence[Any]:
        if parameter.codec.flat:
            return parameter.codec.column(values, parameter.path)
        return [_dump(parameter, value) for value in values]

    def _arity(self, what: str) -> ArgumentError:
        return ArgumentError(f"{self.owner}: {what}: perform takes {self.signature}")


def encode_rows(rows: Sequence[Sequence[Any]]) -> list[bytes]:
    """Return the JSON of each row of written arguments."""
    return _encoder.encode_lines(rows).split(b"\n")[:-1]


def _dump(parameter: Parameter, value: Any) -> Any:
    written = parameter.codec.dump(value, parameter.path)
    if not parameter.codec.flat:
        strict.check(written, parameter.path)
    return written


def _row(row: Any) -> Sequence[Any]:
    if isinstance(row, (tuple, list)):
        return row
    raise ArgumentError(
        f"a {strict.named(type(row))} is not the arguments of a job: use a tuple of them, as in [(1,), (2,)]"
    )
