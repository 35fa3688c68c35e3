"""The thread that owns the exchange: it settles what the job threads have done and fetches what they do next.

One exchange is outstanding at a time, and the same bytes go out again until it is answered. Everything that a process
holds is in `held`, by its field in the working hash, from the answer that brought it until the answer that settled it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qik_core.crew import Crew
from qik_core.errors import StoreError, StoreUnavailable
from qik_core.pace import Pace
from qik_core.processor import unique_of
from qik_core.store.epoch import Epoch
from qik_core.store.exchange import Answer, Fetched, Kind, Other, Outcome, Status
from qik_core.store.link import Arg, Link
from qik_core.store.push import MOST
from qik_core.store.worker import Held, WorkerStore

log: Final = logging.getLogger("qik_core.worker")

_LOOK: Final = 0.8  # seconds after which the epoch is looked at even if there is nothing to do
_PATIENCE: Final = 0.01  # a result waits at most so long for its exchange
_SLEEP: Final = 2  # seconds of one blocking pop of wake-up tokens
_BACK_OFF: Final = (0.05, 1.0)


@dataclass(frozen=True, slots=True)
class Sent:
    """An exchange that has not been answered."""

    sequence: int
    outcomes: Sequence[Outcome]
    want: int
    call: Sequence[Arg]


class Courier:
    """The exchange of one process. `run` is its thread; the other methods are for other threads."""

    def __init__(
        self,
        store: Callable[[], WorkerStore],
        link: Callable[[], Link],
        crew: Callable[[Callable[[], None]], Crew],
        queues: Callable[[], list[str]],
        on_change: Callable[[], None],
    ) -> None:
        """Take the collaborators.

        Args:
            store: makes the scripts of this process under a fresh identity.
            link: makes a connection.
            crew: makes the job threads, given what rings this courier's bell.
            queues: gives the order of one fetch.
            on_change: is called when the epoch has changed: the heartbeat then beats at once.
        """
        self._new_store = store
        self._link, self._sleeper = link(), link()
        self._queues = queues
        self._on_change = on_change
        self._bell, self._rope = os.pipe()
        os.set_blocking(self._rope, False)
        self.crew = crew(self.ring)
        self.store = store()
        self._lock = threading.Lock()
        self.held: dict[bytes, Fetched] = {}
        self._sequence = 0
        self._sent: Sent | None = None
        self._unsent: list[Outcome] = []
        self._returning: list[Fetched] = []
        self._superseded: set[bytes] = set()
        self._pace = Pace(self.crew)
        self._epoch: Epoch | None = None
        self._asleep = False
        self._dry = False
        self._quiet = False
        self._fenced = False
        self._closing = threading.Event()
        self.closed = threading.Event()
        self._trouble = 0
        self.fell_silent: Callable[[], bool] = lambda: False
        """Whether the last acknowledged beat is so old that others may have taken over; set by the heartbeat."""

    # --- for other threads -----------------------------------------------------

    def ring(self) -> None:
        """Wake the courier."""
        with contextlib.suppress(BlockingIOError):  # it rings already
            os.write(self._rope, b"!")

    def quiet(self) -> None:
        """Fetch no more."""
        self._quiet = True
        self.ring()

    def close(self) -> None:
        """Hand back what has not started, settle what has ended, and stop; `closed` is set when that is done."""
        self._quiet = True
        self._closing.set()
        self.ring()

    @property
    def is_quiet(self) -> bool:
        """Whether no more jobs are fetched."""
        return self._quiet

    def leave(self) -> None:
        """Say goodbye, after `closed` is set and the last beat has been sent. Raises StoreError."""
        self.store.leave(self._link, self._queues())

    def fence(self) -> None:
        """Others took over what this process held: come back under a new identity."""
        self._fenced = True
        self.ring()

    def snapshot(self) -> tuple[set[bytes], set[bytes], int | None]:
        """Return the fields held, those whose outcome is under way, and the number of the unanswered exchange."""
        with self._lock:
            sent = self._sent
            settling = {outcome.job.field for outcome in (*self.crew.done, *self._unsent)}
            if sent is not None:
                settling |= {outcome.job.field for outcome in sent.outcomes}
            return set(self.held), settling, None if sent is None else sent.sequence

    def supersede(self, fields: set[bytes]) -> None:
        """Another run holds the keys of these jobs: do not start them, stop them at their next checkpoint."""
        with self._lock:
            self._superseded |= fields
            self.crew.pocket.extendleft(self._not_superseded(self.crew.empty_pocket()))
        self.crew.call(len(self.crew.pocket))
        self.crew.cancel(fields)
        self.ring()

    # --- the thread ------------------------------------------------------------

    def run(self) -> None:
        """Exchange until closed. Survives everything that Redis can do."""
        while not self.closed.is_set():
            try:
                self._step()
                self._trouble = 0
            except StoreError as error:
                self._back_off(error)
            except Exception:
                log.exception("the courier met a defect; it goes on")
                self._back_off(None)

    def _step(self) -> None:
        if self._fenced:
            self._come_back()
        if self._returning:
            self._give_back()
        if self._sent is None:
            self._gather()
            if not self._is_due():
                self._wait()
                return
            self._sent = self._next()
        self._send(self._sent)

    def _gather(self) -> None:
        done = self.crew.done
        self._unsent += [
            done.popleft() for _ in range(min(len(done), 2 * MOST - len(self._unsent)))
        ]

    def _is_due(self) -> bool:
        now = time.monotonic()
        if (
            self._closing.is_set()
            or now - self.crew.looked_at >= _LOOK
            or len(self._unsent) >= MOST
        ):
            return True
        if self._wanted() > 0:
            return not self._dry or bool(self._unsent)
        return bool(self._unsent) and self._pace.waited(now) >= _PATIENCE

    def _wanted(self) -> int:
        return 0 if self._quiet else self._pace.want()

    def _next(self) -> Sent:
        if self._closing.is_set():
            self._hand_back(self.crew.empty_pocket())
        outcomes, self._unsent = self._unsent[:MOST], self._unsent[MOST:]
        want = min(self._wanted(), MOST)
        self._pace.exchanged()
        call = self.store.prepare(outcomes, self._queues(), want)
        return Sent(self._sequence + 1, outcomes, want, call)

    def _send(self, sent: Sent) -> None:
        asked = time.monotonic()
        answer = self.store.exchange(self._link, sent.sequence, sent.call)
        match answer.status:
            case Status.FENCED:
                self._come_back()
            case Status.LOST:
                self._lost(sent)
            case Status.IDLE | Status.DONE | Status.AGAIN:
                self._answered(sent, answer)
                self.crew.looked_at = asked
                if self.crew.pocket:
                    self.crew.call(len(self.crew.pocket))
        if self._epoch != answer.epoch:
            self._changed(answer.epoch)
        if (
            self._closing.is_set()
            and not self.crew.done
            and not self._unsent
            and self._sent is None
        ):
            self._finish()

    def _answered(self, sent: Sent, answer: Answer) -> None:
        with self._lock:
            for outcome in sent.outcomes:
                self.held.pop(outcome.job.field, None)
                self._superseded.discard(outcome.job.field)
            self.held.update((job.field, job) for job in answer.jobs)
            self._sent = None
            if answer.status is not Status.IDLE:
                self._sequence = sent.sequence
            if answer.jobs:
                self._fill(answer.jobs)
        if answer.superseded:
            log.warning("superseded copies dropped", extra={"count": answer.superseded})
        self._dry = len(answer.jobs) < sent.want

    def _fill(self, jobs: Sequence[Fetched]) -> None:
        self._pace.filled()
        self.crew.add(self._not_superseded(jobs) if self._superseded else jobs)

    # --- losses ----------------------------------------------------------------

    def _changed(self, epoch: Epoch) -> None:
        before, self._epoch = self._epoch, epoch
        if before is None:
            return
        self._on_change()
        if (before.loss, before.birth_ms) != (epoch.loss, epoch.birth_ms):
            log.warning(
                "Redis lost its data: asserting what runs here", extra={"held": len(self.held)}
            )
            self._hand_back(self.crew.empty_pocket())

    def _lost(self, sent: Sent) -> None:
        """Redis does not know this process any more, or went back in time: say what we hold, then send again."""
        if self.fell_silent():
            log.error(
                "silent for too long: what this process held may run elsewhere; its results are dropped"
            )
            self._come_back()
            return
        self._link.close()
        settling = {outcome.job.field for outcome in sent.outcomes}
        with self._lock:
            held = [Held(job.field, job.field in settling, job.raw) for job in self.held.values()]
        superseded = self.store.hold(self._link, held, mark=f"{sent.sequence - 1}:0")
        if superseded is None:
            self._come_back()
        else:
            self.supersede(superseded)

    def _come_back(self) -> None:
        """Drop everything; others have it. Numbers go on, so that a late result cannot meet a new job's field."""
        self.crew.cancel(job.field for job in self.crew.running())
        self.crew.empty_pocket()
        self._returning = []
        with self._lock:
            self._fenced = False
            self.store = self._new_store()
            self.held.clear()
            self._superseded.clear()
            self._unsent.clear()
            self.crew.done.clear()
            self._sequence += 2
            self._sent = None
        log.warning("fenced: back as a new process", extra={"identity": self.store.identity})
        self.register()

    def register(self) -> None:
        """Make the working hash of this identity. Raises StoreError."""
        self.store.hold(self._link, (), mark=f"{self._sequence}:0")
        self._on_change()

    # --- small steps -----------------------------------------------------------

    def _not_superseded(self, jobs: Iterable[Fetched]) -> list[Fetched]:
        """Return the jobs that may start; the others are over."""
        kept = []
        for job in jobs:
            if job.field in self._superseded:
                unique, jid = unique_of(job)
                self.crew.done.append(Other(job, Kind.GONE, unique, jid, job.queue, failed=False))
            else:
                kept.append(job)
        return kept

    def _hand_back(self, jobs: Sequence[Fetched]) -> None:
        self._returning += jobs
        if self._returning:
            self._give_back()

    def _give_back(self) -> None:
        """Say it again until it is answered: what may be on its queue already must not start here as well."""
        jobs = self._returning
        try:
            given = self.store.give_back(self._link, jobs)
        except StoreUnavailable:
            raise
        except StoreError:
            self._keep(jobs)
            raise
        if given is None:
            self._keep(jobs)
            return
        self._returning = []
        with self._lock:
            for job in jobs:
                self.held.pop(job.field, None)

    def _keep(self, jobs: Sequence[Fetched]) -> None:
        self._returning = []
        self.crew.pocket.extend(reversed(jobs))

    def _finish(self) -> None:
        self._hand_back(self.crew.empty_pocket())
        if not self.held:
            self.closed.set()
        else:
            self._wait()

    def _wait(self) -> None:
        """Sleep until a bell, a token, or the next thing that is due."""
        if self._pace.stuck():
            self._hand_back(self.crew.empty_pocket())
        wanted = self._wanted() > 0
        if wanted and not self._asleep:
            self.store.sleep(self._sleeper, _SLEEP)
            self._asleep = True
        watched: list[Any] = [self._bell, self._sleeper] if self._asleep else [self._bell]
        self.crew.wants_to_hear = True
        if self.crew.done:
            self.crew.wants_to_hear = False
            self._pace.result()
            if wanted:
                return
        ready, _, _ = select.select(
            watched, (), (), self._pace.pause(_LOOK, _PATIENCE, pending=bool(self._unsent))
        )
        self.crew.wants_to_hear = False
        if self._bell in ready:
            os.read(self._bell, 4096)
            self._pace.result()
        if self._sleeper in ready:
            self._asleep = False
            self._dry = self._sleeper.receive() is None and self._dry

    def _back_off(self, error: StoreError | None) -> None:
        least, most = _BACK_OFF
        if error is not None and self._trouble == 0:
            log.warning("Redis is in trouble; trying again", extra={"error": str(error)})
        if isinstance(error, StoreUnavailable):
            self._asleep = False
            self._sleeper.close()
        self._trouble += 1
        time.sleep(min(least * 2 ** min(self._trouble, 10), most))
