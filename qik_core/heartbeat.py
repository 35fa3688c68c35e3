"""I am alive, this is what I hold; and who is not alive any more?

Two threads: one ticks into the memory shared with the parent and must never wait for Redis, the other beats into Redis
every H, renews the locks of what this process holds, gives back what it does not know of, and looks for lost hosts.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from qik_core import hooks
from qik_core.alone import Wish
from qik_core.capsule import Capsules
from qik_core.courier import Courier
from qik_core.errors import StoreError, StoreUnavailable
from qik_core.minutes import Minutes
from qik_core.shared import Shared, clock
from qik_core.store import recovery
from qik_core.store.link import Arg, Link
from qik_core.store.store import Candidate
from qik_core.store.switches import FIELD
from qik_core.store.worker import Beat, Held, Limits

log: Final = logging.getLogger("qik_core.worker")


class Ticker:
    """Ticks into the shared memory: the parent ends a child whose ticks have stopped."""

    def __init__(
        self, shared: Shared, every: float, works: Callable[[], bool] = lambda: True
    ) -> None:
        self._shared = shared
        self._every = every
        self._works = works

    def run(self) -> None:
        """Tick for as long as the process lives and `works`."""
        while True:
            if self._works():
                self._shared.tick(clock())
            time.sleep(self._every)


class Heartbeat:
    """Beats for one process. `run` is its thread."""

    def __init__(
        self,
        courier: Courier,
        link: Callable[[], Link],
        limits: Limits,
        candidate: Candidate,
        info: Mapping[str, object],
    ) -> None:
        self._courier = courier
        self._link = link()
        self._limits = limits
        self._candidate = candidate
        self._info = info
        self._now = threading.Event()
        self._stopping = threading.Event()
        self._acknowledged = clock()
        self._rtt = 0
        self._watch = Watch(limits)
        self._census = recovery.Census()
        self.on_beat: Callable[[Beat], None] = lambda _: None
        """Told the answer to each beat."""
        self.switches: Callable[[], int] = lambda: 0
        """Returns the version of the kill switches that this process goes by."""
        courier.fell_silent = self._fell_silent

    def beat_soon(self) -> None:
        """Beat at once: the epoch has changed, or a roll waits for us."""
        self._now.set()

    def stop(self) -> None:
        """End the thread after the beat under way."""
        self._stopping.set()
        self._now.set()

    def run(self) -> None:
        """Beat every H, and at once when asked."""
        while not self._stopping.is_set():
            self._now.clear()
            try:
                self.beat()
                self._look_for_the_lost()
            except StoreError as error:
                self._watch.blind()
                log.warning("a beat failed", extra={"error": str(error)})
            except Exception as error:  # noqa: BLE001 - told, and it goes on
                hooks.defect("heartbeat", error)
            self._now.wait(self._limits.heartbeat)

    def count(self, name: str, number: int) -> None:
        """Add to a total that is kept for people; for `on_beat`, or when `run` has ended. Raises StoreError."""
        self._courier.store.count(self._link, name, number)

    def record(self, minutes: Minutes) -> None:
        """Write what ran lately; when and by whom as `count`."""
        minutes.write(self._link.run, time.time())

    def beat(self) -> None:
        """Beat once. Raises StoreError."""
        store = self._courier.store
        known, _, _ = self._courier.snapshot()
        asked = clock()
        queues, wish = self._courier.capsules.queues, self._wish()
        beat = store.beat(self._link, self._fields(), self._work(), queues=queues, wish=wish)
        self._rtt = int((clock() - asked) * 1e6)
        if beat.fenced:
            self._courier.fence()
            return
        _, settling, unanswered = self._courier.snapshot()
        held = [Held(field, field in settling) for field in beat.fields]
        superseded = store.hold(self._link, held, generation=beat.epoch.generation)
        if superseded is None:
            self._courier.fence()
            return
        if not beat.lost:
            self._acknowledged = asked
        if superseded:
            self._courier.supersede(superseded)
        self._give_back_strays(beat, known, unanswered)
        self._courier.capsules.cancel_jobs(beat.cancelled)
        if beat.alone:
            self._courier.alone.begin()
            self._courier.ring()
        self.on_beat(beat)

    def _wish(self) -> Wish:
        return Wish.NO if self._courier.is_quiet else self._courier.alone.wish

    def _give_back_strays(self, beat: Beat, before: set[bytes], unanswered: int | None) -> None:
        """Return jobs that Redis says we hold and we do not know of: their reply was lost for good."""
        store = self._courier.store
        after, settling, _ = self._courier.snapshot()
        strays = [
            field
            for field in beat.fields
            if field not in before and field not in after and field not in settling
            and (unanswered is None or int(field.partition(b".")[0]) != unanswered)
        ]  # fmt: skip
        if strays:
            given = store.give_back(self._link, store.read(self._link, strays))
            if given:
                log.warning(
                    "gave back jobs that this process does not know of", extra={"count": given}
                )

    def _look_for_the_lost(self) -> None:
        found = self._census.look(self._link)
        found.pop(self._courier.store.identity, None)
        for identity in self._watch.convict(found, time.monotonic()):
            try:
                self._recover(identity, found[identity])
            except StoreUnavailable:
                raise
            except (
                StoreError
            ) as error:  # one key that somebody spoiled must not hide the other lost ones
                log.warning(
                    "cannot recover the jobs of a lost process",
                    extra={"identity": identity, "error": str(error)},
                )

    def _recover(self, identity: str, beat: bytes) -> None:
        if not recovery.holds_something(self._link, identity):
            return
        if recovery.fence(self._link, identity, beat):
            count = recovery.recover(self._link, identity, self._candidate)
            log.warning(
                "recovered the jobs of a lost process",
                extra={"identity": identity, "count": count},
            )

    def _fell_silent(self) -> bool:
        return clock() - self._acknowledged > self._limits.lease - 2 * self._limits.heartbeat

    def _fields(self) -> list[Arg]:
        crews = self._courier.capsules
        return [
            "info", json.dumps({**self._info, "identity": self._courier.store.identity}),
            "concurrency", crews.size,
            "busy", crews.size - crews.idle,
            "quiet", "true" if self._courier.is_quiet else "false",
            "rss", resident_kb(),
            "rtt_us", self._rtt,
            FIELD, self.switches(),
        ]  # fmt: skip

    def _work(self) -> list[Arg]:
        pairs: list[Arg] = []
        wall = time.time() - time.monotonic()
        for job, since in self._courier.capsules.running_since():
            work = {
                "queue": job.queue,
                "payload": job.raw.decode("utf-8", "replace"),
                "run_at": int(wall + since),
            }
            pairs += (job.field, json.dumps(work))
        return pairs


class Watch:
    """Who has not beaten for a lease, as this process itself has seen it.

    A process is convicted only if the *same* beat was read again and again for that long, on our own monotonic clock,
    without a failed call and without a gap of more than H: a paused Redis, a restart or a jump of the clock must not
    convict everybody. A missing beat counts as unchanged. A parent gives up its silent child two heartbeats earlier: it
    alone knows which jobs are to blame, so it must not be forestalled (docs/decisions/0050).
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._looked: float | None = None

    def blind(self) -> None:
        """A look failed: nothing seen before it counts."""
        self._seen.clear()

    def convict(self, beats: Mapping[str, bytes], now: float) -> list[str]:
        """Return who is lost, given every process and its last beat."""
        if self._looked is not None and now - self._looked > 2 * self._limits.heartbeat:
            self.blind()
        self._looked = now
        self._seen = {
            identity: seen
            if (seen := self._seen.get(identity)) and beat in (seen[0], recovery.NO_BEAT)
            else (beat, now)
            for identity, beat in beats.items()
        }
        lease = self._limits.lease
        return [identity for identity, (_, since) in self._seen.items() if now - since >= lease]


def process_info(
    tag: str, capsules: Capsules, version: str, *, embedded: bool = False
) -> dict[str, object]:
    """Return what Sidekiq's pages want to know of a process; without all of it, /busy fails for everybody."""
    return {
        "hostname": socket.gethostname(),
        "started_at": time.time(),
        "pid": os.getpid(),
        "tag": tag,
        "concurrency": capsules.size,
        "queues": capsules.queues,
        "weights": [dict(each.weights) for each in capsules],
        "labels": ["qik"],
        "version": version,
        "embedded": embedded,
        "capsules": {
            each.name: {
                "concurrency": each.crew.size,
                "mode": each.mode,
                "weights": dict(each.weights),
            }
            for each in capsules
        },
    }


def resident_kb() -> int:
    """Return the resident memory of this process in KB; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - read every few seconds
            return int(file.read().split()[1]) * (os.sysconf("SC_PAGE_SIZE") // 1024)
    except (OSError, IndexError, ValueError):
        return 0
