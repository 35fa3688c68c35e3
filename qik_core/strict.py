"""Strict JSON: what goes in comes out equal, and of the same type, on every machine and in every language.

JSON libraries disagree silently: NaN becomes `NaN` or null, a tuple a list, the key 1 the key "1", an IntEnum an int. So
values are walked here first, by exact type, and the encoder only sees what cannot be changed by the journey.
The walk also stops at the size limit, before anything large is copied. The limit is `max_payload` while a push is made
(`limited`), and else what Redis itself can take: a worker reads what another process was allowed to push.
"""

from __future__ import annotations

import math
from contextvars import ContextVar, Token
from typing import Any, Final

import msgspec

from qik_core.errors import ArgumentError, MalformedPayload

LARGEST: Final = 512 * 1_048_576
"""Bytes that Redis takes as one string."""
DEPTH: Final = 64
"""Containers inside containers, in one argument."""
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**64 - 1

_limit: ContextVar[int] = ContextVar("qik_limit", default=LARGEST)
_encoder = msgspec.json.Encoder()
_sorted = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder()

_REMEDIES: Final = {
    "bytes": "send text, for instance base64.b64encode(…).decode()",
    "bytearray": "send text, for instance base64.b64encode(…).decode()",
    "memoryview": "send text, for instance base64.b64encode(…).decode()",
    "set": "send sorted(…)",
    "frozenset": "send sorted(…)",
    "tuple": "send list(…), or annotate the parameter as a tuple",
    "generator": "send list(…)",
    "range": "send list(…)",
    "Decimal": "annotate the parameter as Decimal, or send str(…)",
    "UUID": "annotate the parameter as UUID, or send str(…)",
    "datetime": "annotate the parameter as datetime, or send .isoformat()",
    "date": "annotate the parameter as date, or send .isoformat()",
    "timedelta": "send .total_seconds()",
}
_OTHERWISE: Final = "jobs take plain data: pass an id and load the object inside perform"


class limited:  # noqa: N801 - a context manager; a generator would cost each push a microsecond and a half
    """Inside, no argument may be larger than `size` bytes as JSON."""

    __slots__ = ("_size", "_token")

    def __init__(self, size: int) -> None:
        self._size = size

    def __enter__(self) -> None:
        self._token: Token[int] = _limit.set(self._size)

    def __exit__(self, *_: object) -> None:
        _limit.reset(self._token)


def limit() -> int:
    """Return how many bytes the arguments of one job may take as JSON, here and now."""
    return _limit.get()


def encode(value: Any, path: str = "value") -> bytes:
    """Return the JSON of a value that JSON can carry exactly.

    Raises:
        ArgumentError: it cannot; the message names the path, the type, the limit and the remedy.
    """
    check(value, path)
    raw = _encoder.encode(value)
    if len(raw) > limit():
        raise too_large(path, len(raw))
    return raw


def canonical(value: Any) -> bytes:
    """Return the JSON of a checked value with sorted keys: equal values, equal bytes."""
    return _sorted.encode(value)


def decode(raw: bytes) -> Any:
    """Return the value in these bytes.

    Raises:
        MalformedPayload: not JSON, not UTF-8, or nested beyond reason.
    """
    try:
        return _decoder.decode(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedPayload(f"not JSON: {error}") from None


def check(value: Any, path: str = "value", depth: int = DEPTH) -> None:
    """Refuse a value that JSON would change, or that is larger or deeper than a job may be.

    Raises:
        ArgumentError: as `encode`.
    """
    _Walk(path, depth).visit(value, ())


def refusal(value: object, path: str) -> ArgumentError:
    """Return the error for a value of a type that cannot travel. Never calls the value's own code."""
    kind = type(value)
    for base in (bool, int, float, str, list, dict):
        if kind is not base and issubclass(kind, base):
            return ArgumentError(
                f"{path} is a {named(kind)}, a subclass of {base.__name__}: {_plain(kind, base)}"
            )
    remedy = next(
        (_REMEDIES[each.__name__] for each in kind.__mro__ if each.__name__ in _REMEDIES),
        _OTHERWISE,
    )
    return ArgumentError(f"{path} is a {named(kind)}, which JSON cannot carry: {remedy}")


def named(kind: type) -> str:
    """Return a type's name as its owner would write it."""
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def check_int(value: int, path: str) -> None:
    """Refuse an int that other readers would round."""
    if not INT_MIN <= value <= INT_MAX:
        raise ArgumentError(
            f"{path} is an int beyond 64 bits ({INT_MIN} to {INT_MAX}): send str(…)"
        )


def check_float(value: float, path: str) -> None:
    """Refuse NaN and the infinities, which JSON does not have."""
    if not math.isfinite(value):
        raise ArgumentError(f"{path} is {value}, which JSON does not have: send None")


def check_str(value: str, path: str) -> None:
    """Refuse a lone surrogate, which UTF-8 does not have, and a text above the size limit."""
    if len(value) > limit():
        raise too_large(path, len(value))
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"{path} has a lone surrogate at character {error.start}, which UTF-8 does not have: "
            'decode the source rightly, or send text.encode("utf-8", "replace").decode()'
        ) from None


def too_large(path: str, size: int | None = None) -> ArgumentError:
    """Return the error for arguments above the size limit; `size` in bytes, as far as it is known."""
    found = "" if size is None else f" ({size:,} or more)"
    return ArgumentError(
        f"{path} is larger than {limit():,} bytes as JSON{found}, which is max_payload: store it, and pass its id"
    )


def _plain(kind: type, base: type) -> str:
    if any(each.__name__ == "Enum" for each in kind.__mro__):
        return "annotate the parameter with the enum, or send .value"
    return f"send {base.__name__}(…)"


class _Walk:
    """One look at a value. Paths are put together only for an error."""

    __slots__ = ("_depth", "_left", "_path")

    def __init__(self, path: str, depth: int) -> None:
        self._path = path
        self._depth = depth
        self._left = limit()

    def visit(self, value: Any, at: tuple[Any, ...]) -> None:
        kind = type(value)
        if kind is str:
            self._text(value, at)
        elif kind is list:
            self._list(value, at)
        elif kind is dict:
            self._dict(value, at)
        elif not _plain_scalar(value, kind):
            self._refuse(value, kind, at)

    def _refuse(self, value: Any, kind: type, at: tuple[Any, ...]) -> None:
        if kind is int:
            check_int(value, self._spell(at))
        elif kind is float:
            check_float(value, self._spell(at))
        raise refusal(value, self._spell(at))

    def _text(self, value: str, at: tuple[Any, ...]) -> None:
        self._spend(len(value))
        if not value.isascii():
            check_str(value, self._spell(at))

    def _list(self, values: list[Any], at: tuple[Any, ...]) -> None:
        self._descend(len(values), at)
        for index, value in enumerate(values):
            self.visit(value, (*at, index))

    def _dict(self, values: dict[Any, Any], at: tuple[Any, ...]) -> None:
        self._descend(2 * len(values), at)
        for key, value in values.items():
            if type(key) is not str:
                raise ArgumentError(
                    f"{self._spell(at)} has a key of type {named(type(key))}: JSON keys are str, send str(key)"
                )
            self._text(key, (*at, key))
            self.visit(value, (*at, key))

    def _descend(self, size: int, at: tuple[Any, ...]) -> None:
        if len(at) >= self._depth:
            raise ArgumentError(
                f"{self._spell(at[:3])}… is nested deeper than {self._depth} containers, or contains itself: "
                "flatten it, or store it and pass its id"
            )
        self._spend(2 * size)

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise too_large(self._path)

    def _spell(self, at: tuple[Any, ...]) -> str:
        return self._path + "".join(_step(each) for each in at)


def _plain_scalar(value: Any, kind: type) -> bool:
    if kind is int:
        return bool(INT_MIN <= value <= INT_MAX)
    if kind is float:
        return math.isfinite(value)
    return value is None or kind is bool


def _step(each: object) -> str:
    if isinstance(each, int):
        return f"[{each}]"
    return f".{each:.40}" if isinstance(each, str) and each.isidentifier() else f"[{each!r:.40}]"
