"""From an annotation to a codec: how one value is checked and written at push, and read back before `perform`.

What JSON has (int, str, bool, float, None, list, dict) travels as it is. UUID, Decimal, aware datetime, date and Enum travel as
their one canonical form, so that equal values are one unique key. `Any` is whatever strict JSON carries exactly.
Annotations that cannot be told apart on the wire (`UUID | str`) are refused at definition.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import InvalidOperation
from enum import Enum
from typing import Any, Final

from qik_core import strict
from qik_core.errors import ArgumentError

_PAIR: Final = 2


class Codec(ABC):
    """One type of argument, both ways."""

    flat: bool = True
    """The written value is a JSON scalar, checked here; else `strict` walks the whole argument once more."""
    ordered: bool = True
    """Equal values are equal bytes without sorting keys."""
    wire: frozenset[type] = frozenset({str})
    """What the value may be in JSON: a union's members must not share one."""

    @abstractmethod
    def dump(self, value: Any, path: str) -> Any:
        """Return the value as JSON has it, or raise ArgumentError."""

    @abstractmethod
    def load(self, value: Any, path: str) -> Any:
        """Return the value that `dump` was given, or raise ArgumentError."""

    def column(self, values: Sequence[Any], path: str) -> Sequence[Any]:
        """Return many values as JSON has them. Those of exact plain types are checked in C."""
        return [self.dump(value, path) for value in values]


def wrong(value: object, wanted: str, path: str) -> ArgumentError:
    """Return the error for a value of another type than annotated."""
    kind = type(value)
    if kind in (str, int, float, bool, list, dict, type(None)):
        return ArgumentError(
            f"{path} is a {strict.named(kind)}, {wanted} is wanted: convert it before the push"
        )
    error = strict.refusal(value, path)
    return ArgumentError(f"{error}; {wanted} is wanted")


class AnyCodec(Codec):
    """Strict JSON of any shape."""

    flat = False
    ordered = False
    wire = frozenset({str, int, float, bool, list, dict, type(None)})

    def dump(self, value: Any, path: str) -> Any:  # noqa: ARG002 - the walk over the whole argument follows
        return value

    def load(self, value: Any, path: str) -> Any:  # noqa: ARG002
        return value


class NoneCodec(Codec):
    """None, and nothing else."""

    wire = frozenset({type(None)})

    def dump(self, value: Any, path: str) -> None:
        if value is not None:
            raise wrong(value, "None", path)

    load = dump


class BoolCodec(Codec):
    """True or False, not 1 or 0."""

    wire = frozenset({bool})

    def dump(self, value: Any, path: str) -> bool:
        if type(value) is not bool:
            raise wrong(value, "bool", path)
        return value

    load = dump

    def column(self, values: Sequence[Any], path: str) -> Sequence[Any]:
        return values if set(map(type, values)) == {bool} else super().column(values, path)


class IntCodec(Codec):
    """A whole number of 64 bits, signed or unsigned; not a bool, not a subclass."""

    wire = frozenset({int})

    def dump(self, value: Any, path: str) -> int:
        if type(value) is not int:
            raise wrong(value, "int", path)
        strict.check_int(value, path)
        return value

    load = dump

    def column(self, values: Sequence[Any], path: str) -> Sequence[Any]:
        if (
            set(map(type, values)) == {int}
            and min(values) >= strict.INT_MIN
            and max(values) <= strict.INT_MAX
        ):
            return values
        return super().column(values, path)


class FloatCodec(Codec):
    """A finite float; an int is accepted where float holds it exactly, and becomes one."""

    wire = frozenset({int, float})

    def dump(self, value: Any, path: str) -> float:
        if type(value) is int:
            return self._whole(value, path)
        if type(value) is not float:
            raise wrong(value, "float", path)
        strict.check_float(value, path)
        return value

    load = dump

    @staticmethod
    def _whole(value: int, path: str) -> float:
        strict.check_int(value, path)
        if int(float(value)) != value:
            raise ArgumentError(
                f"{path} is {value}, which a float would round: annotate the parameter as int"
            )
        return float(value)


class StrCodec(Codec):
    """A text that UTF-8 can carry; not a subclass."""

    def dump(self, value: Any, path: str) -> str:
        if type(value) is not str:
            raise wrong(value, "str", path)
        strict.check_str(value, path)
        return value

    load = dump

    def column(self, values: Sequence[Any], path: str) -> Sequence[Any]:
        if (
            set(map(type, values)) == {str}
            and max(map(len, values)) <= strict.limit()
            and "".join(values).isascii()
        ):
            return values
        return super().column(values, path)


@dataclass(frozen=True, slots=True)
class TextCodec(Codec):
    """A value that travels as its one canonical text."""

    kind: type
    write: Callable[[Any, str], str]
    read: Callable[[str], Any]

    def dump(self, value: Any, path: str) -> str:
        if type(value) is not self.kind:
            raise wrong(value, self.kind.__name__, path)
        return self.write(value, path)

    def load(self, value: Any, path: str) -> Any:
        if type(value) is not str:
            raise wrong(value, f"{self.kind.__name__} as text", path)
        try:
            return self.read(value)
        except (ValueError, InvalidOperation):
            raise ArgumentError(
                f"{path} is {value!r:.60}, which is not a {self.kind.__name__}"
            ) from None


@dataclass(frozen=True, slots=True)
class EnumCodec(Codec):
    """A member of an enum, by its value."""

    kind: type[Enum]
    wire: frozenset[type]

    def dump(self, value: Any, path: str) -> Any:
        if not isinstance(value, self.kind):
            raise wrong(value, f"a member of {self.kind.__qualname__}", path)
        return value.value

    def load(self, value: Any, path: str) -> Enum:
        for member in self.kind:
            if member.value == value and type(member.value) is type(value):
                return member
        raise ArgumentError(
            f"{path} is {value!r:.60}, which is no value of {self.kind.__qualname__}"
        )


@dataclass(frozen=True, slots=True)
class LiteralCodec(Codec):
    """One of a few plain values."""

    values: tuple[Any, ...]
    wire: frozenset[type]

    def dump(self, value: Any, path: str) -> Any:
        for each in self.values:
            if type(each) is type(value) and each == value:
                return value
        raise ArgumentError(
            f"{path} is {_short(value)}: use one of {', '.join(map(repr, self.values))}"
        )

    def load(self, value: Any, path: str) -> Any:
        return self.dump(value, path)


@dataclass(frozen=True, slots=True)
class UnionCodec(Codec):
    """A value of one of a few types that JSON tells apart."""

    members: tuple[Codec, ...]
    wanted: str
    flat: bool
    ordered: bool
    wire: frozenset[type]

    def dump(self, value: Any, path: str) -> Any:
        if value is None and type(None) in self.wire:
            return None
        return self._first(lambda codec: codec.dump(value, path), value, path)

    def load(self, value: Any, path: str) -> Any:
        member = next((codec for codec in self.members if type(value) in codec.wire), None)
        if member is None:
            raise wrong(value, self.wanted, path)
        return member.load(value, path)

    def _first(self, step: Callable[[Codec], Any], value: Any, path: str) -> Any:
        errors = []
        for codec in self.members:
            try:
                return step(codec)
            except ArgumentError as error:
                errors.append(error)
        if len(self.members) == _PAIR and type(None) in self.wire:  # X | None: X says it better
            raise errors[0]
        raise wrong(value, self.wanted, path)


@dataclass(frozen=True, slots=True)
class ListCodec(Codec):
    """A list of one type."""

    flat = False
    item: Codec
    ordered: bool
    wire: frozenset[type] = frozenset({list})

    def dump(self, value: Any, path: str) -> Any:
        if type(value) is not list:
            raise wrong(value, "list", path)
        return [self.item.dump(each, f"{path}[{index}]") for index, each in enumerate(value)]

    def load(self, value: Any, path: str) -> Any:
        if type(value) is not list:
            raise wrong(value, "list", path)
        return [self.item.load(each, f"{path}[{index}]") for index, each in enumerate(value)]


@dataclass(frozen=True, slots=True)
class DictCodec(Codec):
    """A dict from str to one type. The payload keeps the order of its keys."""

    flat = False
    ordered = False
    item: Codec
    wire: frozenset[type] = frozenset({dict})

    def dump(self, value: Any, path: str) -> Any:
        if type(value) is not dict:
            raise wrong(value, "dict", path)
        strict.check(dict.fromkeys(value), path)
        return {key: self.item.dump(each, f"{path}.{key}") for key, each in value.items()}

    def load(self, value: Any, path: str) -> Any:
        if type(value) is not dict:
            raise wrong(value, "dict", path)
        return {key: self.item.load(each, f"{path}.{key}") for key, each in value.items()}


@dataclass(frozen=True, slots=True)
class TupleCodec(Codec):
    """A tuple: an array on the wire. `items` for fixed places, `rest` for `tuple[X, ...]`."""

    flat = False
    items: tuple[Codec, ...]
    rest: Codec | None
    ordered: bool
    wire: frozenset[type] = frozenset({list})

    def dump(self, value: Any, path: str) -> Any:
        if type(value) is not tuple:
            raise wrong(value, "tuple", path)
        return [
            codec.dump(each, f"{path}[{index}]")
            for index, (codec, each) in enumerate(self._pairs(value, path))
        ]

    def load(self, value: Any, path: str) -> Any:
        if type(value) is not list:
            raise wrong(value, "tuple as an array", path)
        pairs = self._pairs(value, path)
        return tuple(
            codec.load(each, f"{path}[{index}]") for index, (codec, each) in enumerate(pairs)
        )

    def _pairs(self, values: Sequence[Any], path: str) -> list[tuple[Codec, Any]]:
        if self.rest is not None:
            return [(self.rest, value) for value in values]
        if len(values) != len(self.items):
            raise ArgumentError(
                f"{path} has {len(values)} items: the annotation says {len(self.items)}"
            )
        return list(zip(self.items, values, strict=True))


def _short(value: object) -> str:
    return (
        f"{value!r:.60}"
        if type(value) in (str, int, float, bool, type(None))
        else f"a {strict.named(type(value))}"
    )
