"""What `qik top` shows: numbers of one moment, how fast they change, and their lines for a terminal of any size."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from qik_core.api import QueueStats, Stats, Work, WorkSet
from qik_core.cli.base import span
from qik_core.cli.screen import plain
from qik_core.store import Store

_LOOKS: Final = 5
"""Rates are those of the last few looks."""
_FRAME: Final = 6
"""Lines that are no rows of a table."""
_MOST: Final = 250


@dataclass(frozen=True, slots=True)
class Glimpse:
    """Numbers of one moment."""

    stats: Stats
    running: Sequence[Work]
    """The longest first."""
    at: float
    """Epoch seconds, by the clock of this host."""

    @classmethod
    def take(cls, store: Store) -> Glimpse:
        """Look. Raises StoreError."""
        now = time.time()
        running = sorted(
            WorkSet(store), key=lambda each: each.since.timestamp() if each.since else now
        )
        return cls(Stats.read(store), running[:_MOST], now)

    @property
    def queues(self) -> list[QueueStats]:
        """The queues, the deepest first, then the slowest."""
        found = self.stats.queues.values()
        return sorted(found, key=lambda each: (-each.size, -each.latency, each.name))


@dataclass(slots=True)
class Rates:
    """How fast jobs are processed, and fail; a second."""

    seen: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=_LOOKS))

    def saw(self, stats: Stats, now: float) -> None:
        """Take note of totals; `now` is monotonic. Lower ones than before begin anew: somebody reset or lost them."""
        if self.seen and (stats.processed < self.seen[-1][1] or stats.failed < self.seen[-1][2]):
            self.seen.clear()
        self.seen.append((now, stats.processed, stats.failed))

    @property
    def processed(self) -> float:
        """Runs a second, failed ones among them."""
        return self._rate(1)

    @property
    def failed(self) -> float:
        """Failed runs a second."""
        return self._rate(2)

    def _rate(self, column: int) -> float:
        if not self.seen:
            return 0.0
        first, last = self.seen[0], self.seen[-1]
        return (last[column] - first[column]) / (last[0] - first[0]) if last[0] > first[0] else 0.0


@dataclass(frozen=True, slots=True)
class View:
    """What is shown: the last glimpse that there was, and what is wrong since."""

    where: str
    """The Redis, without its password."""
    rates: Rates
    glimpse: Glimpse | None = None
    error: str = ""
    since: float = 0.0
    """For how many seconds Redis has not answered."""

    def lines(self, width: int, height: int) -> list[str]:
        """Return the lines of a screen."""
        lines = [f"qik top · {self.where} · q ends"]
        if self.error:
            lines.append(f"NO ANSWER for {span(self.since)}: {self.error}")
        if self.glimpse is not None:
            rows = max(height - _FRAME - len(lines), 2)
            queues = min(len(self.glimpse.queues), max(rows // 2, rows - len(self.glimpse.running)))
            lines += [self._rates(), _sizes(self.glimpse.stats), ""]
            lines += _aligned(_queue_rows(self.glimpse, queues))
            lines += ["", *_aligned(_running_rows(self.glimpse, rows - queues))]
        return [plain(line, width) for line in lines[:height]]

    def line(self) -> str:
        """Return all of it in one line; empty without a glimpse."""
        if self.glimpse is None:
            return ""
        deepest = [
            f"{plain(q.name)} {q.size:,}, {span(q.latency)}" for q in self.glimpse.queues[:3]
        ]
        parts = [self._rates(), _sizes(self.glimpse.stats), *deepest]
        return " · ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        if self.glimpse is None or self.error:
            return {"error": self.error}
        stats = self.glimpse.stats
        names = ("processed", "failed", "busy", "enqueued", "scheduled", "retries", "dead")
        return {
            "at": round(self.glimpse.at, 3),
            "processed_per_second": round(self.rates.processed, 1),
            "failed_per_second": round(self.rates.failed, 1),
            **{name: getattr(stats, name) for name in (*names, "processes")},
            "queues": {
                plain(q.name): {
                    "queued": q.size,
                    "latency": round(q.latency, 3),
                    "paused": q.paused,
                }
                for q in self.glimpse.queues[:_MOST]
            },
            "queues_of": len(stats.queues),
            "error": None,
        }

    def _rates(self) -> str:
        return f"processed {self.rates.processed:,.1f}/s · failed {self.rates.failed:,.1f}/s"


def _sizes(stats: Stats) -> str:
    sizes = (
        ("busy", stats.busy), ("queued", stats.enqueued), ("scheduled", stats.scheduled),
        ("retries", stats.retries), ("dead", stats.dead), ("processes", stats.processes),
    )  # fmt: skip
    held = sum(max(each.jobs, 0) for each in stats.held.values())
    parts = [f"{name} {size:,}" for name, size in sizes] + ([f"held {held:,}"] if held else [])
    return " · ".join(parts)


def _queue_rows(glimpse: Glimpse, most: int) -> Iterator[Sequence[str]]:
    yield "QUEUE", "QUEUED", "LATENCY", ""
    for each in glimpse.queues[:most]:
        paused = "paused" if each.paused else ""
        yield plain(each.name, 40), f"{each.size:,}", span(each.latency), paused


def _running_rows(glimpse: Glimpse, most: int) -> Iterator[Sequence[str]]:
    yield "RUNNING", "FOR", "JID", "PROCESS"
    for each in glimpse.running[:most]:
        since = max(glimpse.at - each.since.timestamp(), 0.0) if each.since else None
        yield (
            plain(each.job.display_class or "no job", 40),
            "-" if since is None else span(since),
            plain(each.job.jid, 40),
            plain(each.identity, 60),
        )


def _aligned(rows: Iterator[Sequence[str]]) -> list[str]:
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
