"""What each class ran, minute by minute, under the names and in the forms that Sidekiq's Metrics page reads.

Sidekiq 7 and 8 name the same things differently (`eight`); both are read. Retry policy: none. What was on its way when
an answer was lost may have been counted or not, and is not sent again: no run is counted twice.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from qik_core.store import keys
from qik_core.store.link import Links

BUCKETS: Final = (
    20, 30, 45, 65, 100, 150, 225, 335, 500, 750, 1_100, 1_700, 2_500, 3_800, 5_750, 8_500, 13_000, 20_000,
    30_000, 45_000, 65_000, 100_000, 150_000, 225_000, 335_000,
)  # fmt: skip
"""Upper bounds of the buckets of histograms, ms; one more is for what took longer."""
MOST_CLASSES: Final = 1_000
"""So many classes of a minute are read; what has more is read in part."""
_FIELDS: Final = {"p": "processed", "f": "failed", "ms": "ms"}
_KINDS: Final = tuple(_FIELDS)
_WIDTH: Final = 2 * (len(BUCKETS) + 1)
_KEEP: Final = (8 * 3_600, 3 * 86_400)  # seconds: a minute, ten minutes
_KEEP_MARKS: Final = (90 * 86_400, 60)  # seconds: a mark, and that its label was marked
_PART: Final = 15  # classes of one script that writes, each by up to 33 commands
_KEYS: Final = 4  # hashes of one script that reads them whole, each of up to 3,000 fields
_DIGITS: Final = 18  # of a number that can be true


class Ran(NamedTuple):
    """What one class ran: all runs, those that failed, the ms of the others, and these by bucket."""

    name: str
    processed: int
    failed: int
    ms: int
    buckets: Sequence[int]


class Count(NamedTuple):
    """The same without the histogram."""

    processed: int = 0
    failed: int = 0
    ms: int = 0

    def plus(self, other: Count) -> Count:
        """Return both together."""
        return Count(*map(sum, zip(self, other, strict=True)))


def add(run: Callable[..., Any], at: float, rows: Sequence[Ran], *, eight: bool) -> str:
    """Add what ran to the minute of `at`; returns what Redis refused, or nothing. `run` is `Link.run`. Raises StoreError."""
    names = (keys.minute(at, eight=eight), keys.ten_minutes(at))
    refused = ""
    for part in _parts(rows, _PART):
        args: list[Any] = [*_KEEP]
        for each in part:
            filled = " ".join(f"{n} {count}" for n, count in enumerate(each.buckets) if count)
            histogram = keys.histogram(each.name, at, eight=eight)
            args += (each.name, each.processed, each.failed, each.ms, histogram, filled)
        reply = run("ran", names, args)
        refused = refused or (reply or b"").decode("utf-8", "replace")
    return refused


def of_all(
    links: Links, minutes: Sequence[Sequence[bytes]], until: float
) -> tuple[dict[str, Count], bool]:
    """Return what each class ran, and whether that is all, given the keys of each minute. Raises StoreError.

    `until` (monotonic) is when it stops asking.
    """
    found: dict[str, Count] = {}
    whole = True
    for part in _parts([key for each in minutes for key in each], _KEYS):
        if time.monotonic() >= until:
            return found, False
        cut, *hashes = links.run("minutes", part, (MOST_CLASSES * len(_KINDS),))
        whole = whole and not cut
        for each in hashes:
            for name, count in _by_class(each):
                found[name] = found.get(name, Count()).plus(count)
    return found, whole


def of_one(
    links: Links, name: str, minutes: Sequence[Sequence[bytes]], histograms: Sequence[bytes]
) -> tuple[list[Count], list[int]]:
    """Return what one class ran in each of these minutes, and the sum of its histograms. One round trip. Raises StoreError."""
    flat = [key for each in minutes for key in each]
    fields = [f"{name}|{kind}" for kind in _KINDS]
    reply = links.run("class", (*flat, *histograms), (len(flat), *fields))
    values = iter(
        [Count(*map(_number, each or ("",) * len(_KINDS))) for each in reply[: len(flat)]]
    )
    counts = []
    for each in minutes:
        total = Count()
        for _ in each:
            total = total.plus(next(values))
        counts.append(total)
    sizes = [_sizes(each or b"") for each in reply[len(flat) :]]
    return counts, [sum(each) for each in zip(*sizes, strict=True)]


def mark(links: Links, at: float, label: str) -> bool:
    """Mark a deploy in the minute of `at`; False: this label was marked a moment ago. Raises StoreError."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(at))
    return bool(
        links.run("mark", (keys.marks(at), keys.marking(label)), (stamp, label, *_KEEP_MARKS))
    )


def marks(links: Links, since: float, until: float) -> dict[bytes, bytes]:
    """Return what was marked on the days between these times, a day at most: time as it was written → label."""
    found: dict[bytes, bytes] = {}
    for key in sorted({keys.marks(since), keys.marks(until)}):
        _, flat = links.run("minutes", (key,), (MOST_CLASSES,))
        found.update(zip(flat[::2], flat[1::2], strict=True))
    return found


def _by_class(flat: Sequence[bytes]) -> Iterator[tuple[str, Count]]:
    for field, value in zip(flat[::2], flat[1::2], strict=True):
        name, _, kind = field.decode("utf-8", "replace").rpartition("|")
        if name and kind in _KINDS:
            yield name, Count(**{_FIELDS[kind]: _number(value)})


def _number(text: bytes | str | None) -> int:
    """Return a number; 0 for what is none."""
    return int(text) if text and len(text) <= _DIGITS and text.isdigit() else 0


def _sizes(text: bytes) -> Sequence[int]:
    return struct.unpack(f">{len(BUCKETS) + 1}H", text.ljust(_WIDTH, b"\0"))


def _parts(items: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]
