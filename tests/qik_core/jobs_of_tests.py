"""Job classes that the client side's tests push, and the values that must never get into Redis."""

from __future__ import annotations

import threading
from collections import namedtuple
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, NamedTuple
from uuid import UUID

import redis

from qik_core import Job, job
from qik_core.strict import decode


def names(raw: redis.Redis) -> list[bytes]:
    """The names of all keys."""
    return [key if isinstance(key, bytes) else key.encode() for key in raw.scan_iter()]


def stored(raw: redis.Redis, key: str) -> list[dict[str, Any]]:
    """The payloads in a list, newest first, or in a zset, first due first."""
    found: list[Any] = (
        raw.zrange(key, 0, -1) if raw.type(key) == b"zset" else raw.lrange(key, 0, -1)
    )
    return [decode(each) for each in found]


def due(raw: redis.Redis) -> list[float]:
    """When the jobs of the schedule are due, first first."""
    found: Any = raw.zrange("schedule", 0, -1, withscores=True)
    return [score for _, score in found]


def scheduled(raw: redis.Redis) -> list[tuple[dict[str, Any], float]]:
    """The payloads of the schedule with their times, first due first."""
    found: Any = raw.zrange("schedule", 0, -1, withscores=True)
    return [(decode(each), score) for each, score in found]


def server_time(raw: redis.Redis) -> float:
    """Epoch seconds by the server's clock."""
    found: Any = raw.time()
    return float(found[0] + found[1] / 1e6)


class TakesAnything(Job, queue="any"):
    def perform(self, value: Any) -> None: ...


class TakesInt(Job, queue="ints"):
    def perform(self, number: int) -> None: ...


class TakesDefaults(Job):
    def perform(self, number: int, force: bool = False) -> None: ...


class TakesNothing(Job):
    def perform(self) -> None: ...


class UniqueInt(Job, queue="unique", unique_for=timedelta(hours=1)):
    def perform(self, number: int, force: bool = False) -> None: ...


class UniqueByName(Job, unique_for=60, unique_args=["name"]):
    def perform(self, number: int, name: str) -> None: ...


class UniqueAnything(Job, unique_for=60):
    def perform(self, value: Any) -> None: ...


class AsyncInt(Job):
    async def perform(self, number: int) -> int:
        return number


@job(queue="functions", retry=3)
def double(number: int) -> int:
    return 2 * number


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Point(NamedTuple):
    x: int


OLD = namedtuple("OLD", "x")  # noqa: PYI024 - the point


class Hostile:
    """Its own code must never be called for an error message."""

    def __repr__(self) -> str:
        raise RuntimeError("repr was called")

    __str__ = __repr__


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append({"again": value})
    return value


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "B1 NaN": (lambda: float("nan"), "nan, which JSON does not have"),
    "B2 infinity": (lambda: float("inf"), "inf, which JSON does not have"),
    "B2 1e400": (lambda: -1e400, "-inf, which JSON does not have"),
    "B2 inside": (lambda: {"a": [1.0, float("nan")]}, ".a[1] is nan"),
    "B4 2^64": (lambda: 2**64, "beyond 64 bits"),
    "B4 below -2^63": (lambda: -(2**63) - 1, "beyond 64 bits"),
    "B5 5,000 digits": (lambda: 10**5000, "beyond 64 bits"),
    "B6 bytes": (lambda: b"x", "base64"),
    "B6 bytearray": (lambda: bytearray(b"x"), "base64"),
    "B6 memoryview": (lambda: memoryview(b"x"), "base64"),
    "B7 set": (lambda: {1, 2}, "sorted"),
    "B7 frozenset": (lambda: frozenset({1}), "sorted"),
    "B8 Decimal": (lambda: Decimal("1.5"), "annotate the parameter as Decimal"),
    "B9 naive datetime": (lambda: datetime(2026, 1, 1), "isoformat"),  # noqa: DTZ001 - the point
    "B9 aware datetime": (
        lambda: datetime(2026, 1, 1, tzinfo=UTC),
        "annotate the parameter as datetime",
    ),
    "B9 date": (lambda: date(2026, 1, 1), "annotate the parameter as date"),
    "B9 timedelta": (lambda: timedelta(1), "total_seconds"),
    "B9 UUID": (lambda: UUID(int=7), "annotate the parameter as UUID"),
    "B10 tuple": (lambda: (1, 2), "list"),
    "B10 namedtuple": (lambda: Point(1), "list"),
    "B10 old namedtuple": (lambda: OLD._make([1]), "list"),
    "B11 Enum": (lambda: Colour.RED, "plain data"),
    "B11 IntEnum": (lambda: Level.LOW, ".value"),
    "B11 str subclass": (lambda: Text("x"), "subclass of str: send str"),
    "B11 int subclass": (lambda: Whole(7), "subclass of int: send int"),
    "B11 complex": (lambda: 1j, "plain data"),
    "B12 int key": (lambda: {1: "a"}, "key of type int"),
    "B12 None key": (lambda: {None: "a"}, "key of type NoneType"),
    "B12 tuple key": (lambda: {(1, 2): "a"}, "key of type tuple"),
    "B12 1 and '1'": (lambda: {"1": "a", 1: "b"}, "key of type int"),
    "B12 str subclass key": (lambda: {Text("x"): 1}, "key of type"),
    "B13 lone surrogate": (lambda: "a\ud800", "lone surrogate at character 1"),
    "B13 in a key": (lambda: {"\ud800": 1}, "lone surrogate"),
    "B15 depth 65": (lambda: nested(65), "deeper than 6"),
    "B15 depth 2,000": (lambda: nested(2000), "deeper than 6"),
    "B15 depth 100,000": (lambda: nested(100_000), "deeper than 6"),
    "B15 cyclic": (cyclic, "contains itself"),
    "B16 over 1 MB": (lambda: "x" * 1_048_577, "larger than 1,048,576 bytes"),
    "B16 escapes over 1 MB": (lambda: "\0" * 200_000, "larger than 1,048,576 bytes"),
    "B16 100 MB": (lambda: "x" * 100_000_000, "larger than 1,048,576 bytes"),
    "B16 the same text often": (lambda: ["x" * 900_000] * 1000, "larger than 1,048,576 bytes"),
    "B17 10^6 small values": (lambda: list(range(1_000_000)), "larger than 1,048,576 bytes"),
    "B18 generator": (lambda: (n for n in range(3)), "list"),
    "B18 iterator": (lambda: iter([1]), "plain data"),
    "B18 lock": (threading.Lock, "plain data"),
    "B18 lambda": (lambda: print, "plain data"),
    "B18 class": (lambda: Colour, "plain data"),
    "B18 module": (lambda: threading, "plain data"),
    "B18 object": (lambda: object(), "pass an id and load the object inside perform"),  # noqa: PLW0108
    "B23 raising repr": (Hostile, "Hostile, which JSON cannot carry"),
    "B23 inside": (lambda: [{"a": Hostile()}], "[0].a is a"),
}

GOOD: dict[str, object] = {
    "B3 -0.0": -0.0,
    "B4 2^53+1": 2**53 + 1,
    "B4 2^63": 2**63,
    "B4 2^64-1": 2**64 - 1,
    "B4 -2^63": -(2**63),
    "B14 NUL": "a\0b",
    "B14 controls": "".join(map(chr, range(32))),
    "B14 U+2028": "\u2028\u2029",
    "B14 bidi": "\u202eabc",
    "B14 four bytes": "🦜",
    "B14 BOM": "\ufeffx",
    "B15 depth 64": nested(64),
    "B19 empty": "",
    "B19 None": None,
    "B22 JSON": '{"a":1}',
    "B22 HTML": "<script>alert(1)</script>",
    "B22 ANSI": "\x1b[31mred",
    "B22 our own header": '{"qik":"-","jid":"x","queue":"y",',
    "floats": [1.0, 1e22, 5e-324, 0.1],
    "order of keys": {"b": 1, "a": [{"d": 1, "c": None}]},
}
