"""Five crontab fields: when they fall due, in a zone, and whether they ever do.

Debian's cron is the model (cronsim follows it): Sunday is 0 and 7; where both days are restricted either will do. When
clocks go forward, a fixed time that is skipped falls due at the end of the gap; when they go back, one that comes twice
falls due at the first. What runs by the hour or the minute follows the clock that really passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import pairwise
from typing import Final

from cronsim import CronSim, CronSimError

from reconciler.errors import Rule, broken

_FIELDS: Final = 5
_DAY: Final = 86_400.0
_KNOWN: Final = datetime(2024, 1, 1, tzinfo=UTC)
"""Where the distance between two days is measured from: a leap year, so that the 29th of February is met soon."""
_DAYS: Final = 400
"""How many of them are looked at: a year of a schedule that runs every day."""
_YEARS: Final = timedelta(days=9 * 366)
"""How far ahead days are looked for, once there are two."""


@dataclass(frozen=True, slots=True)
class Crontab:
    """A schedule of five fields. Make one by `crontab`."""

    text: str
    longest: float
    """Seconds that lie between two times at most, clocks that are set apart."""
    shortest: float
    """Seconds that lie between two times at least."""

    def after(self, moment: datetime, zone: tzinfo = UTC) -> datetime:
        """Return the first time after a moment, in UTC."""
        return next(self._from(moment, zone))

    def between(self, since: datetime, until: datetime, zone: tzinfo = UTC) -> Iterator[datetime]:
        """Yield the times after `since` up to `until`, in UTC."""
        for each in self._from(since, zone):
            if each > until:
                return
            yield each

    def _from(self, moment: datetime, zone: tzinfo) -> Iterator[datetime]:
        last = moment
        for each in CronSim(self.text, moment.astimezone(zone)):
            time = each.astimezone(UTC)
            if (
                time > last
            ):  # in the hour that comes twice a time of day may be meant that has passed
                yield (last := time)


class Overlap(StrEnum):
    """Which slots are told while earlier ones are not done."""

    ALL = "all"  # all of them, side by side
    ONE = "one"  # the earliest; the next one when that is done, and none is left out
    SKIP = "skip"  # the latest, once no earlier one is under way; those before it are left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """The times at which something should have happened."""

    times: Crontab
    zone: tzinfo
    catchup: float
    """Seconds for which a slot is expected after its time."""
    overlap: Overlap
    since: datetime | None
    """Slots up to then are not expected."""

    def expected(self, now: float) -> list[int]:
        """Return the slots of the catch-up window in epoch seconds, earliest first."""
        until = datetime.fromtimestamp(now, UTC)
        since = datetime.fromtimestamp(max(0.0, now - self.catchup), UTC)
        if self.since is not None:
            since = max(since, self.since)
        return [int(each.timestamp()) for each in self.times.between(since, until, self.zone)]


def crontab(owner: str, option: str, text: object) -> Crontab:
    """Return a schedule.

    Raises:
        DefinitionError: these are not five crontab fields, or no day has such a date.
    """
    if type(text) is not str or len(text.split()) != _FIELDS:
        raise _not(owner, option, text, "five fields are needed: minute hour day month weekday")
    try:
        days = _days(text)
        longest, shortest = _distances(text, days)
    except (CronSimError, ValueError) as error:  # a number of thousands of digits is the latter
        raise _not(owner, option, text, f"{str(error)[:1].lower()}{str(error)[1:]}") from None
    return Crontab(" ".join(text.split()), longest, shortest)


def _days(text: str) -> list[datetime]:
    """Return the first days on which a schedule runs."""
    days = CronSim(f"0 0 {' '.join(text.split()[2:])}", _KNOWN - timedelta(days=1))
    found: list[datetime] = []
    for each in days:
        found.append(each)
        if len(found) == _DAYS or (len(found) > 1 and each > _KNOWN + _YEARS):
            break
    if not found:
        raise CronSimError("No day has such a date")
    return found


def _distances(text: str, days: list[datetime]) -> tuple[float, float]:
    """Return the longest and the shortest way from one time to the next, in seconds."""
    minute, hour, *_ = text.split()
    times = CronSim(f"{minute} {hour} * * *", _KNOWN - timedelta(seconds=1))
    day = [(each - _KNOWN).total_seconds() for each in _until(times, _KNOWN + timedelta(days=1))]
    within = [later - earlier for earlier, later in pairwise(day)]
    over = day[0] + _DAY - day[-1]
    apart = [(later - earlier).total_seconds() - _DAY for earlier, later in pairwise(days)]
    nights = [over + each for each in (min(apart, default=0.0), max(apart, default=0.0))]
    return max([*within, *nights]), min([*within, *nights])


def _until(times: CronSim, end: datetime) -> Iterator[datetime]:
    for each in times:
        if each >= end:
            return
        yield each


def _not(owner: str, option: str, text: object, why: str) -> Exception:
    return broken(
        owner,
        Rule.CRON,
        f"{option} is {text!r:.80}: {why}",
        f"Use five crontab fields: {option}='0 6 * * *' is every day at six",
    )
