"""The thread that owns the exchange: it settles what the job threads have done and fetches what they do next.

One exchange is outstanding at a time, and the same bytes go out again until it is answered. Everything that a process
holds is in `held`, by its field in the working hash, from the answer that brought it until the answer that settled it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from qik_core import hooks
from qik_core.admission import Admission
from qik_core.alone import Alone, Stage
from qik_core.bell import Bell, Damaged
from qik_core.capsule import LOOK, Capsule, Capsules, Sent
from qik_core.errors import StoreError, StoreUnavailable
from qik_core.pace import STUCK, Patience
from qik_core.store.epoch import Epoch
from qik_core.store.exchange import Answer, Fetched, Outcome, Status
from qik_core.store.link import Link
from qik_core.store.push import MOST
from qik_core.store.worker import Held, WorkerStore

log: Final = logging.getLogger("qik_core.worker")

_PLAIN_TROUBLE: Final = 2  # failed steps in a row; after more, files that a job closed may be why
_PATIENCE: Final = 0.01  # a result waits at most so long for its exchange
_BACK_OFF: Final = (0.05, 1.0)


class Courier:
    """The exchange of one process. `run` is its thread; the other methods are for other threads."""

    def __init__(
        self,
        store: Callable[[], WorkerStore],
        link: Callable[[], Link],
        capsules: Callable[[Callable[[], None]], Sequence[Capsule]],
        on_change: Callable[[], None],
    ) -> None:
        """Take what makes the scripts under a fresh identity, a connection, and the job threads, given what rings the bell.

        `on_change` is called when the epoch has changed or a turn with the suspects has ended: the heartbeat then beats.
        """
        self._new_store = store
        self._link, self._bell = link(), Bell(link())
        self.ring = self._bell.ring
        self._on_change = on_change
        self.capsules = Capsules(capsules(self.ring))
        self.store = store()
        self.alone = Alone(self.store.limits.heartbeat)
        self._lock = threading.Lock()
        self.admission = Admission(self.capsules, self._lock)
        self.held: dict[bytes, Fetched] = {}
        self._sequence = 0
        self._sent: Sent | None = None
        self._unsent: list[Outcome] = []
        self._returning: list[Fetched] = []
        self._patience = Patience()
        self._looked_at = 0.0
        self._epoch: Epoch | None = None
        self._quiet = False
        self._fenced = False
        self._closing = threading.Event()
        self.closed = threading.Event()
        self._trouble = 0
        self.turned_at = 0.0  # in monotonic seconds: when the last turn began; 0 before the first
        self.on_damage: Callable[[Damaged], None] = lambda _: None
        self.fell_silent: Callable[[], bool] = lambda: False
        """Whether the last acknowledged beat is so old that others may have taken over; set by the heartbeat."""

    # --- for other threads -----------------------------------------------------

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
        self.store.leave(self._link, self.capsules.queues)

    def fence(self) -> None:
        """Others took over what this process held: come back under a new identity."""
        self._fenced = True
        self.ring()

    def snapshot(self) -> tuple[set[bytes], set[bytes], int | None]:
        """Return the fields held, those whose outcome is under way, and the number of the unanswered exchange."""
        with self._lock:
            sent = self._sent
            under_way = (*self.capsules.done, *self._unsent, *(sent.outcomes if sent else ()))
            settling = {outcome.job.field for outcome in under_way}
            return set(self.held), settling, sent.sequence if sent else None

    def supersede(self, fields: set[bytes]) -> None:
        """Another run holds the keys of these jobs: do not start them, stop them at their next checkpoint."""
        self.admission.supersede(fields)
        self.ring()

    def dismiss(self) -> None:
        """End the job threads of a courier that has closed; nobody may ring any more."""
        self.capsules.stop()
        self._bell.close()

    # --- the thread ------------------------------------------------------------

    def run(self) -> None:
        """Exchange until closed. Survives everything that Redis can do."""
        while not self.closed.is_set():
            self.turned_at = time.monotonic()
            try:
                self._step()
                self._trouble = 0
            except StoreError as error:
                self._back_off(error)
            except Damaged as damage:
                self.on_damage(damage)
                self._back_off(None)
            except Exception as error:  # noqa: BLE001 - told, and it goes on
                hooks.defect("courier", error)
                self._back_off(None)

    def _step(self) -> None:
        if self._trouble > _PLAIN_TROUBLE:
            self._bell.check()
        if self._fenced:
            self._come_back()
        self.admission.look(self.store, self._link)
        if self._returning:
            self._give_back()
        if self.alone.active:
            self._make_room()
        if self._sent is None:
            self._gather()
            capsule, want = self._wanted()
            if not self._is_due(capsule, want):
                self._wait(want)
                return
            self._sent = self._next(capsule, want)
        self._send(self._sent)

    def _gather(self) -> None:
        done = self.capsules.done
        ended = [done.popleft() for _ in range(min(len(done), 2 * MOST - len(self._unsent)))]
        # A run that began before this process was fenced is nobody's any more: its job may run here again.
        ours = [outcome for outcome in ended if outcome.job.field in self.held]
        if dropped := len(ended) - len(ours):
            log.warning("results from before the fence dropped", extra={"count": dropped})
        self._unsent += ours

    def _wanted(self) -> tuple[Capsule, int]:
        """Return for which capsule to fetch and how many jobs."""
        capsule, want = self.capsules.choose(time.monotonic())
        return capsule, 0 if self._quiet or self.alone.active else want

    def _is_due(self, capsule: Capsule, want: int) -> bool:
        now = time.monotonic()
        if self._closing.is_set() or now - self._looked_at >= LOOK or len(self._unsent) >= MOST:
            return True
        if want > 0:
            return bool(self._unsent) or capsule.thirsty(now)
        if self._unsent:  # settled also before a damaged process ends
            return self._patience.waited(now) >= _PATIENCE or self._bell.damaged
        return self._lonely()

    def _next(self, capsule: Capsule, want: int) -> Sent:
        if self._closing.is_set():
            self._hand_back(self.capsules.empty_pockets())
        outcomes, self._unsent = self._unsent[:MOST], self._unsent[MOST:]
        suspects = not outcomes and self._lonely()
        queues, want = (self.capsules.queues, 1) if suspects else (capsule.order(), want)
        self._patience.exchanged()
        for each in self.capsules:
            each.pace.exchanged()
        call = self.store.prepare(outcomes, queues, want, suspects=suspects)
        return Sent(self._sequence + 1, outcomes, capsule, want, call, suspects)

    def _send(self, sent: Sent) -> None:
        asked = time.monotonic()
        answer = self.store.exchange(self._link, sent.sequence, sent.call)
        match answer.status:
            case Status.FENCED:
                self._come_back()
            case Status.LOST:
                self._lost(sent)
            case Status.IDLE | Status.DONE | Status.AGAIN:
                self._answered(sent, answer, asked)
                self._looked_at = asked
                self.capsules.looked(asked)
        if self._epoch != answer.epoch:
            self._changed(answer.epoch)
        unsettled = self.capsules.done or self._unsent or self._sent is not None
        if self._closing.is_set() and not unsettled:
            self._finish()

    def _answered(self, sent: Sent, answer: Answer, asked: float) -> None:
        with self._lock:
            for outcome in sent.outcomes:
                self.held.pop(outcome.job.field, None)
                self.admission.superseded.discard(outcome.job.field)
            self.held.update((job.field, job) for job in answer.jobs)
            self._sent = None
            if answer.status is not Status.IDLE:
                self._sequence = sent.sequence
            if answer.jobs:
                self._fill(sent, answer.jobs)
        if answer.superseded:
            log.warning("superseded copies dropped", extra={"count": answer.superseded})
        if sent.suspects:
            self.alone.fetched(len(answer.jobs))
            return
        # Copies that were dropped say that there is more behind them.
        sent.capsule.dry = len(answer.jobs) + answer.superseded < sent.want
        if sent.want:
            sent.capsule.asked = asked
            self.capsules.served(sent.capsule)

    def _fill(self, sent: Sent, jobs: Sequence[Fetched]) -> None:
        capsule = self.capsules.serving(jobs[0].queue) if sent.suspects else sent.capsule
        capsule.fill(self.admission.startable(jobs))

    # --- suspects --------------------------------------------------------------

    def _make_room(self) -> None:
        """A turn with the suspects is under way: keep everything else out, and see when it is over."""
        if self.alone.stage is Stage.EMPTYING:
            self._hand_back(self.capsules.empty_pockets())
            if self._quiet:
                self.alone.abandon()
            elif self.alone.give_up():
                log.info("suspects wait on: jobs that run here take long")
        elif not self.held:
            self.alone.ended()
            self._on_change()

    def _lonely(self) -> bool:
        """Whether nothing runs nor waits here, so that a suspect can."""
        return (
            self.alone.stage is Stage.EMPTYING
            and not self.held
            and self.capsules.idle == self.capsules.size
        )

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
            self._hand_back(self.capsules.empty_pockets())

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
            return
        self.supersede(superseded)
        if held:
            self.store.count(self._link, "lost_exchanges", 1)

    def _come_back(self) -> None:
        """Drop everything; others have it. Numbers go on, so that a late result cannot meet a new job's field."""
        self.capsules.cancel([job.field for job in self.capsules.running()])
        self.capsules.empty_pockets()
        self.alone.abandon()
        self._returning = []
        with self._lock:
            self._fenced = False
            self.store = self._new_store()
            self.held.clear()
            self.admission.superseded.clear()
            self._unsent.clear()
            self.capsules.done.clear()
            self._sequence += 2
            self._sent = None
        log.warning("fenced: back as a new process", extra={"identity": self.store.identity})
        self.register()

    def register(self) -> None:
        """Make the working hash of this identity. Raises StoreError."""
        self.store.hold(self._link, (), mark=f"{self._sequence}:0")
        self._on_change()

    # --- small steps -----------------------------------------------------------

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
        for job in reversed(jobs):
            self.capsules.serving(job.queue).crew.pocket.append(job)

    def _finish(self) -> None:
        self._hand_back(self.capsules.empty_pockets())
        if not self.held:
            self.closed.set()
        else:
            self._wait(0)

    def _wait(self, want: int) -> None:
        """Sleep until a bell, a token, or the next thing that is due."""
        if self.capsules.waiting:
            self._hand_back(self.capsules.empty_pockets(stuck_only=True))
        if want:
            self._bell.ask(self.store)
        self.capsules.hear(wanted=True)
        if self.capsules.done:
            self._patience.result()
        if self.capsules.done and want:
            self.capsules.hear(wanted=False)
            return
        rang, token = self._bell.wait(self._pause(want))
        self.capsules.hear(wanted=False)
        if rang:
            self._patience.result()
        if token:
            self.capsules.look()

    def _pause(self, want: int) -> float:
        """Return how long the courier may sleep."""
        now = time.monotonic()
        until = self._looked_at + LOOK - now
        if want:
            until = min(until, self.capsules.next_look(now))
        if self._unsent:
            until = min(until, _PATIENCE - self._patience.waited(now))
        if self.capsules.waiting:
            until = min(until, STUCK / 2)
        return max(until, 0.0)

    def _back_off(self, error: StoreError | None) -> None:
        least, most = _BACK_OFF
        if error is not None and self._trouble == 0:
            log.warning("Redis is in trouble; trying again", extra={"error": str(error)})
        if isinstance(error, StoreUnavailable):
            self._bell.forget()
        self._trouble += 1
        time.sleep(min(least * 2 ** min(self._trouble, 10), most))
