"""How much of everything there is: now, and on each day before."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Final

from qik_core.api.record import JobRecord, Location, State, moment_of
from qik_core.client import current as current_client
from qik_core.errors import ArgumentError
from qik_core.options import did_you_mean
from qik_core.store import Store, held, keys, numbers
from qik_core.store.held import HeldJobs

log: Final = logging.getLogger("qik_core.api")

MOST_DAYS: Final = 5 * 365
"""Days are kept for 5 years."""
_TOTALS: Final = ("processed", "failed")


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue."""

    name: str
    size: int
    latency: float
    """For how many seconds the job that is fetched next has been waiting."""
    paused: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """How much of everything there is, as of one moment."""

    processed: int
    """Runs, failed ones among them, since the beginning or the last reset."""
    failed: int
    busy: int
    """Jobs that run now, as the processes last said."""
    enqueued: int
    scheduled: int
    retries: int
    dead: int
    processes: int
    queues: Mapping[str, QueueStats]
    held: Mapping[str, HeldJobs] = field(default_factory=dict)
    """What is held of each class that is switched off and that no reconciler tells."""
    wrong: tuple[str, ...] = ()
    """Keys that hold something else than they should; they count as empty."""

    @property
    def default_latency(self) -> float:
        """The latency of the queue `default`, in seconds."""
        queue = self.queues.get("default")
        return queue.latency if queue else 0.0

    @classmethod
    def read(cls, store: Store | None = None) -> Stats:
        """Return the numbers of now: two round trips, and more where jobs are held. Raises StoreError."""
        links = (store or current_client().store).links
        total, holding = numbers.numbers(links), {each.name: each for each in held.held(links.call)}
        queues = {
            each.name: QueueStats(
                each.name,
                max(each.size, 0),
                latency(each.name, each.oldest, total.time),
                each.paused,
            )
            for each in total.queues
        }
        sets = {
            keys.SCHEDULE: total.scheduled,
            keys.RETRY: total.retries,
            keys.DEAD: total.dead,
            keys.PROCESSES: total.processes,
            **{keys.queue(each.name): each.size for each in total.queues},
        }
        return cls(
            processed=total.processed,
            failed=total.failed,
            busy=total.busy,
            enqueued=sum(each.size for each in queues.values()),
            scheduled=max(total.scheduled, 0),
            retries=max(total.retries, 0),
            dead=max(total.dead, 0),
            processes=max(total.processes, 0),
            queues=MappingProxyType(queues),
            held=MappingProxyType(holding),
            wrong=tuple(key.decode() for key, size in sets.items() if size < 0),
        )

    @staticmethod
    def reset(*names: str, store: Store | None = None) -> None:
        """Set the totals to 0: `processed`, `failed`, or both without a name. The numbers of days stay.

        Raises:
            ArgumentError: no such total.
        """
        for name in names:
            if name not in _TOTALS:
                raise ArgumentError(
                    f"Stats.reset: there is no total {name!r}{did_you_mean(name, _TOTALS)}"
                )
        wanted = names or _TOTALS
        numbers.reset((store or current_client().store).links, wanted)
        log.warning("totals were reset by hand", extra={"totals": ", ".join(wanted)})


@dataclass(frozen=True, slots=True)
class History:
    """What was processed, and what failed, day by day in UTC; the latest day first."""

    processed: Mapping[date, int]
    failed: Mapping[date, int]

    @classmethod
    def read(
        cls, days: int = 30, *, until: date | None = None, store: Store | None = None
    ) -> History:
        """Return the numbers of so many days, up to today or `until`: one round trip.

        Raises:
            ArgumentError: not 1 to 1,825 days.
        """
        if type(days) is not int or not 1 <= days <= MOST_DAYS:
            raise ArgumentError(f"History.read: days is {days!r:.40}: use 1 to {MOST_DAYS:,}")
        last = until or datetime.now(UTC).date()
        dates = [last - timedelta(days=back) for back in range(days)]
        links = (store or current_client().store).links
        done, failed = numbers.by_day(links, [each.isoformat() for each in dates])
        return cls(
            MappingProxyType(dict(zip(dates, done, strict=True))),
            MappingProxyType(dict(zip(dates, failed, strict=True))),
        )


def latency(queue: str, oldest: bytes, now: float) -> float:
    """Return for how many seconds a job has waited, given its `enqueued_at`, or behind `=` all of it, as scripts answer."""
    if oldest.startswith(b"="):
        where = Location(State.QUEUED, keys.queue(queue), queue)
        since = JobRecord.of(oldest[1:], where).enqueued_at
    else:
        since = moment_of(float(oldest))
    return max(now - since.timestamp(), 0.0) if since else 0.0
