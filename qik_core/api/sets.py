"""The places in which jobs wait or lie dead: look into them, and change what is there.

Reading goes in windows and takes no more memory for a million jobs than for five hundred; it is safe while workers move
jobs. A change acts on the job as it was read: if that has moved since, nothing happens and the answer is `gone`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from qik_core import hooks
from qik_core.api.acts import Act, Acted, Tally
from qik_core.api.filters import Filter
from qik_core.api.record import JobRecord, Location, State, moment_of
from qik_core.client import current as current_client
from qik_core.errors import ArgumentError, QikError
from qik_core.options import moment
from qik_core.payload import Payload
from qik_core.settings import current as current_settings
from qik_core.store import MOST, Store, keys
from qik_core.store.ended import EndedKind
from qik_core.store.records import Move, Records
from qik_core.store.windows import Entry, ListReader, SortedReader, Window

log: Final = logging.getLogger("qik_core.api")

Change = Callable[[Sequence[JobRecord], int | None], list[Acted]]
Where = str | Filter


class BuriedByHand(QikError):
    """What death handlers are told of a job that a person made dead."""


class JobSet:
    """Jobs in one list or sorted set.

    All methods raise StoreError when Redis does not answer, and WrongType when the key holds something else.
    """

    def __init__(self, location: Location, store: Store | None = None) -> None:
        self.location = location
        self._records = Records(store or current_client().store)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location.key.decode()}>"

    @property
    def size(self) -> int:
        """How many jobs there are."""
        return self._records.size(self.location.key, is_list=self.location.is_list)

    def __iter__(self) -> Iterator[JobRecord]:
        """Yield every job: of a queue the newest first, of a sorted set the lowest score first."""
        for window in self._reader():
            yield from self._jobs(window)

    def matching(self, where: Where) -> Iterator[JobRecord]:
        """Yield the jobs that a filter means.

        Raises:
            FilterError: it cannot be read.
        """
        return filter(Filter.parse(where), iter(self))

    def find(self, jid: str) -> JobRecord | None:
        """Return the job with this id, None if it is not here; the server looks for it."""
        entries = (
            self._records.search_list(self.location.key, jid)
            if self.location.is_list
            else self._records.search_sorted(self.location.key, jid)
        )
        found = (self._job(entry) for entry in entries)
        return next((job for job in found if job.jid == jid), None)

    def delete(self, job: JobRecord) -> Acted:
        """Delete a job and free its lock."""
        return self._one("deleted", self._drop, job)

    def delete_all(self, where: Where = "") -> Tally:
        """Delete the jobs that a filter means, all without one, and free their locks."""
        return self._all("deleted", self._drop, where)

    def clear(self) -> int:
        """Delete every job that is here now, and free their locks; says how many."""
        return self.delete_all().done

    # --- for those below -------------------------------------------------------

    def _one(self, what: str, change: Change, job: JobRecord) -> Acted:
        self._mine(job)
        acted = change([job], None)[0]
        self._audit(f"a job was {what} by hand", jid=job.jid, job=job.class_name, result=acted.act)
        return acted

    def _all(
        self,
        what: str,
        change: Change,
        where: Where,
        unless: Callable[[JobRecord], bool] = lambda _: False,
    ) -> Tally:
        """Change the jobs that are here now, a window at a time: as many are looked at as there were at the start.

        `unless` tells those that came meanwhile, or come again: they are passed over.
        """
        wanted, tally, left, reader = Filter.parse(where), Tally(), self.size, self._reader()
        for window in reader:
            here = [job for job in self._jobs(window) if not unless(job)][:left]
            jobs = [job for job in here if wanted(job)]
            acted = change(jobs, window.at) if jobs else []
            tally.add(acted)
            if isinstance(reader, ListReader):
                reader.removed([job.raw for job, each in zip(jobs, acted, strict=True) if each])
            left -= len(here)
            if left <= 0:
                break
        self._audit(f"jobs were {what} by hand", where=str(wanted), **_plain(tally))
        return tally

    def _drop(self, jobs: Sequence[JobRecord], at: int | None) -> list[Acted]:
        claims = [job.claim() for job in jobs]
        is_list = self.location.is_list
        flags = self._records.drop(self.location.key, claims, at=at, is_list=is_list)
        return [_acted(flag) for flag in flags]

    def _reader(self) -> ListReader | SortedReader:
        if self.location.is_list:
            return self._records.list_windows(self.location.key)
        return self._records.sorted_windows(self.location.key)

    def _jobs(self, window: Window) -> list[JobRecord]:
        return [self._job(entry) for entry in window.entries]

    def _job(self, entry: Entry) -> JobRecord:
        return JobRecord.of(entry.raw, self.location, entry.score)

    def _mine(self, job: JobRecord) -> None:
        if job.location.key != self.location.key:
            here, there = self.location.key.decode(), job.location.key.decode()
            raise ArgumentError(
                f"job {job.jid} was read in {there}, not in {here}: act on it there"
            )

    def _audit(self, event: str, **fields: object) -> None:
        log.info(event, extra={"place": self.location.key.decode(), **fields})


class WaitingSet(JobSet):
    """Jobs that have not ended: they can be made dead."""

    def bury(self, job: JobRecord) -> Acted:
        """Make a job dead, as it is, and free its lock; the death handlers of this process are told."""
        return self._one("buried", self._bury, job)

    def bury_all(self, where: Where = "") -> Tally:
        """Make the jobs dead that a filter means, all without one."""
        return self._all("buried", self._bury, where)

    def _bury(self, jobs: Sequence[JobRecord], at: int | None) -> list[Acted]:
        settings, is_list = current_settings(), self.location.is_list
        keep = (settings.dead_max, settings.dead_days * 86_400.0)
        by_hand = EndedKind.DIED, "BuriedByHand: a person made it dead"
        claims = [job.claim()._replace(note=job.note(*by_hand)) for job in jobs]
        flags = self._records.bury(self.location.key, claims, at=at, is_list=is_list, keep=keep)
        for job, flag in zip(jobs, flags, strict=True):
            if flag and not job.malformed:
                hooks.died(Payload(job.fields), BuriedByHand("a person made it dead"))
        return [_acted(flag) for flag in flags]


class Queue(WaitingSet):
    """One queue."""

    def __init__(self, name: str = "default", store: Store | None = None) -> None:
        self.name = keys.check_queue(name)
        super().__init__(Location(State.QUEUED, keys.queue(name), name), store)

    @classmethod
    def all(cls, store: Store | None = None) -> list[Queue]:
        """Return every queue that was ever pushed to, by name; a name that cannot be one is left out."""
        store = store or current_client().store
        return [cls(name, store) for name in Records(store).queues() if keys.is_queue(name)]

    @property
    def latency(self) -> float:
        """For how many seconds the job that is fetched next has been waiting; 0 for an empty queue."""
        entries = self._records.oldest(self.location.key, 1).entries
        since = self._job(entries[0]).enqueued_at if entries else None
        return max(self._records.time() - since.timestamp(), 0.0) if since else 0.0

    @property
    def paused(self) -> bool:
        """Whether nothing is fetched from it."""
        return self._records.is_paused(self.name)

    def pause(self) -> bool:
        """Let every worker pass it over from the next fetch on; False when it was paused."""
        return self._pause("paused", on=True)

    def resume(self) -> bool:
        """Let it be served again; False when it was not paused."""
        return self._pause("resumed", on=False)

    def clear(self) -> int:
        """Delete every job that is here now, oldest first, and free their locks; says how many."""
        total, left = 0, self.size
        while left > 0:
            window = self._records.oldest(self.location.key, min(left, MOST))
            if not window.entries:
                break
            gone = self._drop(self._jobs(window), window.at)
            total += sum(map(bool, gone))
            left -= len(gone)
        self._audit("a queue was cleared by hand", count=total)
        return total

    def _pause(self, what: str, *, on: bool) -> bool:
        changed = self._records.pause(self.name, on=on)
        self._audit(f"a queue was {what} by hand", changed=changed)
        return changed


class SuspectList(WaitingSet):
    """The jobs of one queue under which a process has died. Each runs alone in its process next time."""

    def __init__(self, queue: str = "default", store: Store | None = None) -> None:
        self.queue = keys.check_queue(queue)
        super().__init__(Location(State.SUSPECT, keys.suspect(queue), queue), store)

    @classmethod
    def all(cls, store: Store | None = None) -> list[SuspectList]:
        """Return the suspects of every queue that has some."""
        store = store or current_client().store
        return [cls(name, store) for name in Records(store).suspects() if keys.is_queue(name)]


class SortedJobs(JobSet):
    """Jobs in a sorted set."""

    def fetch(self, score: float, jid: str = "") -> list[JobRecord]:
        """Return the jobs with this score, and this id if one is given: Sidekiq's pages name jobs so."""
        entries = self._records.at_score(self.location.key, score)
        jobs = [self._job(entry) for entry in entries]
        return [job for job in jobs if not jid or job.jid == jid]

    def _note(self, _: JobRecord) -> bytes:
        return b""

    def _advance(self, jobs: Sequence[JobRecord], _at: int | None) -> list[Acted]:
        return self._to_queue(jobs, retried=False)

    def _retry(self, jobs: Sequence[JobRecord], _at: int | None) -> list[Acted]:
        return self._to_queue(jobs, retried=True)

    def _to_queue(self, jobs: Sequence[JobRecord], *, retried: bool) -> list[Acted]:
        bytes_of = [job.for_queue(retried=retried) for job in jobs]
        moves = [
            Move(job.claim()._replace(note=self._note(job)), job.queue, raw)
            for job, raw in zip(jobs, bytes_of, strict=True)
            if raw is not None
        ]
        answers = iter(self._records.requeue(self.location.key, moves) if moves else ())
        return [Acted(Act.NO_JOB) if raw is None else _answered(next(answers)) for raw in bytes_of]


class DueSet(SortedJobs, WaitingSet):
    """Jobs that have a time."""

    def reschedule(self, job: JobRecord, when: datetime | float | timedelta) -> Acted:
        """Let a job become due at another time: an aware datetime, epoch seconds, or a timedelta from now.

        Raises:
            ArgumentError: not a moment.
        """
        at = self._moment(when)
        return self._one(f"rescheduled to {_said(at)}", self._rescheduling(at), job)

    def reschedule_all(self, where: Where, when: datetime | float | timedelta) -> Tally:
        """Let the jobs become due at one other time that a filter means; all with an empty one.

        Raises:
            ArgumentError: not a moment.
        """
        at = self._moment(when)

        def was_moved(job: JobRecord) -> bool:
            return job.score == at

        return self._all(f"rescheduled to {_said(at)}", self._rescheduling(at), where, was_moved)

    def _moment(self, when: datetime | float | timedelta) -> float:
        if isinstance(when, timedelta):
            when = self._records.time() + when.total_seconds()
        return round(moment(when, "reschedule: when"), 6)  # as a script writes it

    def _rescheduling(self, at: float) -> Change:
        def change(jobs: Sequence[JobRecord], _: int | None) -> list[Acted]:
            claims = [job.claim() for job in jobs]
            flags = self._records.reschedule(self.location.key, claims, at)
            return [_acted(flag) for flag in flags]

        return change


class AdvanceSet(DueSet):
    """Jobs that were pushed for later and never failed."""

    def advance(self, job: JobRecord) -> Acted:
        """Put a job on its queue now, without waiting for its time."""
        return self._one("advanced", self._advance, job)

    def advance_all(self, where: Where = "") -> Tally:
        """Put the jobs on their queues now that a filter means, all without one."""
        return self._all("advanced", self._advance, where)


class ScheduledSet(AdvanceSet):
    """Jobs that were pushed for later by the application."""

    def __init__(self, store: Store | None = None) -> None:
        super().__init__(Location(State.SCHEDULED, keys.SCHEDULE), store)


class LaterSet(AdvanceSet):
    """Jobs of passes for one queue, spread by jitter."""

    def __init__(self, queue: str = "default", store: Store | None = None) -> None:
        self.queue = keys.check_queue(queue)
        super().__init__(Location(State.LATER, keys.later(queue), queue), store)

    @classmethod
    def all(cls, store: Store | None = None) -> list[LaterSet]:
        """Return the one of every queue that was ever pushed to."""
        store = store or current_client().store
        return [cls(name, store) for name in Records(store).queues() if keys.is_queue(name)]


class RetrySet(DueSet):
    """Failed jobs that wait for their next try."""

    def __init__(self, store: Store | None = None) -> None:
        super().__init__(Location(State.RETRY, keys.RETRY), store)

    def retry(self, job: JobRecord) -> Acted:
        """Put a job on its queue now. This try is not counted among its retries."""
        return self._one("retried", self._retry, job)

    def retry_all(self, where: Where = "") -> Tally:
        """Put the jobs on their queues now that a filter means, all without one.

        One that fails again at once, while this goes on, is not retried twice.
        """
        start = datetime.fromtimestamp(self._records.time(), UTC)

        def failed_since(job: JobRecord) -> bool:
            last = job.retried_at or job.failed_at
            return last is not None and last > start

        return self._all("retried", self._retry, where, failed_since)


class DeadSet(SortedJobs):
    """Jobs that will not be tried again, kept to be looked at."""

    def __init__(self, store: Store | None = None) -> None:
        super().__init__(Location(State.DEAD, keys.DEAD), store)

    def retry(self, job: JobRecord) -> Acted:
        """Put a job on its queue, under its lock; blocked when another job holds its key by now."""
        return self._one("retried", self._retry, job)

    def retry_all(self, where: Where = "") -> Tally:
        """Put the jobs on their queues that a filter means, all without one."""
        return self._all("retried", self._retry, where)

    def _note(self, job: JobRecord) -> bytes:
        return job.note(EndedKind.RETRIED)


def _acted(flag: bool) -> Acted:  # noqa: FBT001 - what a script answered
    return Acted(Act.DONE if flag else Act.GONE)


def _answered(answer: str) -> Acted:
    return Acted(Act.BLOCKED, answer[1:]) if answer[0] == "=" else _acted(answer == "1")


def _said(at: float) -> str:
    return f"{moment_of(at):%Y-%m-%dT%H:%M:%SZ}"


def _plain(tally: Tally) -> dict[str, int]:
    return {act.value: count for act, count in tally}
