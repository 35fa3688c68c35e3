"""Which codec an annotation means. What cannot travel is refused at definition, with what to write instead."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, Flag
from functools import reduce
from typing import Any, Final
from uuid import UUID

from qik_core import codecs, strict, texts
from qik_core.codecs import Codec
from qik_core.errors import DefinitionError

_SCALARS: Final[Mapping[object, Codec]] = {
    Any: codecs.AnyCodec(),
    object: codecs.AnyCodec(),
    None: codecs.NoneCodec(),
    type(None): codecs.NoneCodec(),
    bool: codecs.BoolCodec(),
    int: codecs.IntCodec(),
    float: codecs.FloatCodec(),
    str: codecs.StrCodec(),
    UUID: codecs.TextCodec(UUID, texts.write_uuid, UUID),
    Decimal: codecs.TextCodec(Decimal, texts.write_decimal, texts.read_decimal),
    datetime: codecs.TextCodec(datetime, texts.write_datetime, texts.read_datetime),
    date: codecs.TextCodec(date, texts.write_date, texts.read_date),
}
_ANY: Final = _SCALARS[Any]
_INSTEAD: Final[Mapping[str, str]] = {
    "bytes": "str, and send base64",
    "bytearray": "str, and send base64",
    "set": "list[…], and send sorted(…)",
    "frozenset": "list[…], and send sorted(…)",
    "timedelta": "float, and send .total_seconds()",
    "time": "str, and send .isoformat()",
    "complex": "list[float]",
}
_ALLOWED: Final = "int, str, bool, float, None, list, dict, tuple, Any, UUID, Decimal, datetime, date, Enum, Literal"


def codec_of(annotation: Any, where: str) -> Codec:
    """Return the codec of an annotation.

    Raises:
        DefinitionError: values of this type cannot travel, or cannot be told apart on the wire.
    """
    try:
        if annotation in _SCALARS:
            return _SCALARS[annotation]
    except TypeError:  # an unhashable annotation
        raise _refused(annotation, where) from None
    origin = typing.get_origin(annotation)
    if origin is not None:
        return _generic(annotation, origin, where)
    if isinstance(annotation, type):
        return _class(annotation, where)
    inner = getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None)
    if inner is not None:  # NewType, and `type X = …`
        return codec_of(inner, where)
    raise _refused(annotation, where)


def hints_of(
    annotations: Mapping[str, Any], function: Callable[..., Any], local: Mapping[str, Any]
) -> dict[str, Any]:
    """Return annotations with their names looked up; those of the return value play no part.

    Raises:
        NameError: a name that the function's module does not have, or not yet.
    """
    holder = types.SimpleNamespace(__annotations__=dict(annotations))
    return typing.get_type_hints(holder, getattr(function, "__globals__", {}), dict(local))


def _generic(annotation: Any, origin: Any, where: str) -> Codec:
    inner = typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _union(annotation, inner, where)
    if origin is typing.Literal:
        return _literal(inner, where)
    if origin in (list, Sequence):
        item = codec_of(inner[0], where)
        return codecs.ListCodec(item, item.ordered)
    if origin in (dict, Mapping):
        return _dict(annotation, inner, where)
    if origin is tuple:
        return _tuple(inner, where)
    raise _refused(annotation, where)


def _class(annotation: type, where: str) -> Codec:
    if annotation in (list, Sequence):
        return codecs.ListCodec(_ANY, ordered=False)
    if annotation in (dict, Mapping):
        return codecs.DictCodec(_ANY)
    if annotation is tuple:
        return codecs.TupleCodec((), _ANY, ordered=False)
    if issubclass(annotation, Enum):
        return _enum(annotation, where)
    raise _refused(annotation, where)


def _enum(annotation: type[Enum], where: str) -> Codec:
    kinds = frozenset(type(member.value) for member in annotation)
    if issubclass(annotation, Flag) or not kinds or not kinds <= {str, int}:
        raise DefinitionError(
            f"{where} is the enum {annotation.__qualname__}, whose values are not all str or int: give it such values"
        )
    return codecs.EnumCodec(annotation, kinds)


def _literal(values: tuple[Any, ...], where: str) -> Codec:
    kinds = frozenset(map(type, values))
    if not kinds <= {str, int, bool, type(None)}:
        raise DefinitionError(f"{where} is a Literal of {values!r:.80}: use str, int, bool or None")
    return codecs.LiteralCodec(values, kinds)


def _dict(annotation: Any, inner: tuple[Any, ...], where: str) -> Codec:
    if inner[0] is not str:
        raise DefinitionError(f"{where} is {annotation}: JSON keys are str, annotate dict[str, …]")
    return codecs.DictCodec(codec_of(inner[1], where))


def _tuple(inner: tuple[Any, ...], where: str) -> Codec:
    rest = codec_of(inner[0], where) if len(inner) == 2 and inner[1] is Ellipsis else None  # noqa: PLR2004
    items = () if rest else tuple(codec_of(each, where) for each in inner)
    return codecs.TupleCodec(
        items, rest, all(codec.ordered for codec in (*items, *([rest] if rest else [])))
    )


def _union(annotation: Any, inner: tuple[Any, ...], where: str) -> Codec:
    members = tuple(codec_of(each, where) for each in inner)
    wire: frozenset[type] = reduce(frozenset.union, (codec.wire for codec in members))
    if len(wire) != sum(len(codec.wire) for codec in members):
        raise DefinitionError(
            f"{where} is {annotation}, whose members look alike in JSON: annotate one of them, or use two parameters"
        )
    return codecs.UnionCodec(
        members,
        str(annotation),
        flat=all(codec.flat for codec in members),
        ordered=all(codec.ordered for codec in members),
        wire=wire,
    )


def _refused(annotation: Any, where: str) -> DefinitionError:
    name = strict.named(annotation) if isinstance(annotation, type) else str(annotation)
    instead = _INSTEAD.get(getattr(annotation, "__name__", ""), "")
    remedy = f"annotate {instead}" if instead else "pass an id and load the object inside perform"
    return DefinitionError(
        f"{where} is {name:.120}, which cannot travel: {remedy} (allowed: {_ALLOWED})"
    )
