"""When passes are due. APScheduler is the clock and nothing else: it wakes runners, it runs nothing itself.

Its memory store, one per process; what was missed is made up once, however late (`coalesce`, no misfire limit). It
sleeps until a moment of the wall clock, so a clock that is set back by an hour would silence it for an hour: whoever
notices a jump calls `again()`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from reconciler.cron import Crontab


class AtTimes(BaseTrigger):  # type: ignore[misc]  # its library has no types
    """Falls due at the times of a crontab, in UTC."""

    def __init__(self, times: Crontab) -> None:
        self._times = times

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Return the first time after the last one, or after now: what was missed is made up by one call."""
        return self._times.after(max(previous or now, now))


class Clock:
    """Calls `due` with the name of each reconciler, at once and then every so often, or at the times of a crontab."""

    def __init__(self, due: Callable[[str], None]) -> None:
        self._due = due
        self._scheduler: Any = BackgroundScheduler(
            jobstores={"default": MemoryJobStore()},
            executors={"default": ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )

    def add(self, name: str, every: float, cron: Crontab | None = None) -> None:
        """Have `due(name)` called now, and then every `every` seconds or at the times of `cron`."""
        self._scheduler.add_job(
            self._due,
            AtTimes(cron) if cron else IntervalTrigger(seconds=every, timezone=UTC),
            args=[name],
            id=name,
            next_run_time=datetime.now(UTC),
        )

    def remove(self, name: str) -> None:
        """Call this one no more."""
        with suppress(JobLookupError):
            self._scheduler.remove_job(name)

    def start(self) -> None:
        """Begin to call."""
        self._scheduler.start()

    def again(self) -> None:
        """Call everybody now, and count their intervals from now on."""
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=datetime.now(UTC))

    def stop(self) -> None:
        """Call nobody any more."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
