"""What each class of jobs ran lately, minute by minute, and when was deployed: as Sidekiq's Metrics page has it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Self

from qik_core.client import current as current_client
from qik_core.errors import ArgumentError
from qik_core.store import Store, keys
from qik_core.store import minutes as stored
from qik_core.store.link import Links
from qik_core.store.minutes import BUCKETS, Count

MOST_MINUTES: Final = 480
"""Minutes are kept for 8 hours."""
LONGEST_LABEL: Final = 100
_FINE: Final = 60  # minutes that are read one by one; more of them in tens
_PATIENCE: Final = 0.7  # seconds


@dataclass(frozen=True, slots=True)
class Runs:
    """What was run in some time."""

    processed: int
    """Runs, failed ones among them."""
    failed: int
    seconds: float
    """Of those that did not fail, all together."""

    @property
    def mean(self) -> float | None:
        """How long a run took that did not fail, seconds; None without one."""
        well = self.processed - self.failed
        return self.seconds / well if well > 0 else None

    @classmethod
    def of(cls, count: Count) -> Self:
        """Return what the store says."""
        return cls(count.processed, count.failed, count.ms / 1000)


@dataclass(frozen=True, slots=True)
class Deploy:
    """A deploy that somebody marked."""

    at: datetime
    label: str


@dataclass(frozen=True, slots=True)
class Span:
    """Minutes up to now, one by one or in tens."""

    starts: Sequence[datetime]
    """When each of them begins; the last one is not over."""
    step: int
    """Minutes of one of them."""

    @classmethod
    def of(cls, minutes: int, now: float) -> Self:
        """Return the last minutes.

        Raises:
            ArgumentError: not 1 to 480.
        """
        if type(minutes) is not int or not 1 <= minutes <= MOST_MINUTES:
            raise ArgumentError(f"minutes is {minutes!r:.40}: use 1 to {MOST_MINUTES}")
        step = 1 if minutes <= _FINE else 10
        last = int(now) // (60 * step)
        first = last - (minutes + step - 1) // step + 1
        return cls(
            [datetime.fromtimestamp(60 * step * each, UTC) for each in range(first, last + 1)], step
        )

    def hashes(self) -> list[Sequence[bytes]]:
        """Return the keys of each: Sidekiq 8 has tens too, Sidekiq 7 minutes alone."""
        times = [each.timestamp() for each in self.starts]
        if self.step > 1:
            return [(keys.ten_minutes(each),) for each in times]
        return [tuple(keys.minute(at, eight=eight) for eight in (True, False)) for at in times]

    def histograms(self, name: str) -> list[bytes]:
        """Return the keys of all histograms of a class."""
        return [
            keys.histogram(name, start.timestamp() + 60 * minute, eight=eight)
            for start in self.starts
            for minute in range(self.step)
            for eight in (True, False)
        ]


@dataclass(frozen=True, slots=True)
class ClassStats:
    """What every class ran, those first that ran most."""

    span: Span
    classes: Mapping[str, Runs]
    deploys: Sequence[Deploy]
    whole: bool
    """Whether these are all; at most 1,000 classes of a minute are read, and for less than a second."""

    @classmethod
    def read(
        cls, minutes: int = 60, *, now: float | None = None, store: Store | None = None
    ) -> Self:
        """Return what ran in the last 1 to 480 minutes; more than 60 are read in tens, which Sidekiq 7 does not keep.

        Raises:
            ArgumentError: another number of minutes.
        """
        links, now = (store or current_client().store).links, time.time() if now is None else now
        span = Span.of(minutes, now)
        found, whole = stored.of_all(links, span.hashes(), time.monotonic() + _PATIENCE)
        most = sorted(found.items(), key=lambda each: (-each[1].processed, each[0]))
        classes = {name: Runs.of(count) for name, count in most}
        return cls(span, MappingProxyType(classes), _deploys(links, span, now), whole)


@dataclass(frozen=True, slots=True)
class ClassHistory:
    """What one class ran, by time."""

    name: str
    span: Span
    runs: Sequence[Runs]
    """As many as there are starts."""
    histogram: Sequence[tuple[float | None, int]]
    """How many runs that did not fail took up to so many seconds and longer than the one before; None: longer than all."""
    deploys: Sequence[Deploy]

    @property
    def total(self) -> Runs:
        """All of it together."""
        return Runs(
            sum(each.processed for each in self.runs),
            sum(each.failed for each in self.runs),
            sum(each.seconds for each in self.runs),
        )

    @classmethod
    def read(
        cls,
        name: str,
        minutes: int = 60,
        *,
        now: float | None = None,
        store: Store | None = None,
    ) -> Self:
        """Return what a class ran in the last 1 to 480 minutes; see `ClassStats.read`.

        Raises:
            ArgumentError: another number of minutes.
        """
        links, now = (store or current_client().store).links, time.time() if now is None else now
        span = Span.of(minutes, now)
        counts, sizes = stored.of_one(links, name, span.hashes(), span.histograms(name))
        bounds = [*(bound / 1000 for bound in BUCKETS), None]
        histogram = list(zip(bounds, sizes, strict=True))
        return cls(name, span, list(map(Runs.of, counts)), histogram, _deploys(links, span, now))


def mark_deploy(label: str, *, at: datetime | None = None, store: Store | None = None) -> bool:
    """Note that a release was deployed now, or at `at`, for pages to show; False: this label was marked within a minute.

    Sidekiq's Metrics page shows it too. The first label of a minute stays.

    Raises:
        ArgumentError: the label is not 1 to 100 characters without control characters, or `at` has no time zone.
    """
    if not label.isprintable() or not 0 < len(label) <= LONGEST_LABEL:
        raise ArgumentError(
            f"label is {label!r:.120}: use 1 to {LONGEST_LABEL} printable characters"
        )
    if at is not None and at.tzinfo is None:
        raise ArgumentError(f"at is {at}: give it a time zone, as in datetime.now(UTC)")
    when = time.time() if at is None else at.timestamp()
    return stored.mark((store or current_client().store).links, when, label)


def _deploys(links: Links, span: Span, now: float) -> list[Deploy]:
    first = span.starts[0]
    found = [
        Deploy(at, label.decode("utf-8", "replace"))
        for stamp, label in stored.marks(links, first.timestamp(), now).items()
        if (at := _time(stamp)) is not None and first.timestamp() <= at.timestamp() <= now
    ]
    return sorted(found, key=lambda each: (each.at, each.label))


def _time(stamp: bytes) -> datetime | None:
    """Return a time as Ruby writes it; None for what is none."""
    try:
        at = datetime.fromisoformat(stamp.decode())
    except ValueError:
        return None
    return at if at.tzinfo is not None else None
