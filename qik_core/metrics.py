"""The child's side of metrics: it answers its parent's questions with what it has counted, and with what Redis says.

A thread of its own, which sleeps until the parent asks. See `probes.gather` for the other side, `tallies` for the counting.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from qik_core import registry
from qik_core.api.numbers import Stats
from qik_core.capsule import Capsules
from qik_core.client import current
from qik_core.errors import StoreError, WrongType
from qik_core.probes.gather import FRAME, REDIS_TOO
from qik_core.probes.text import Samples, histogram, labels
from qik_core.results import Code
from qik_core.store.pressure import QueueLoad, load_of
from qik_core.tallies import UNKNOWN, End, Tallies, Tally

log: Final = logging.getLogger("qik_core.metrics")
_DOWN: Final[dict[str, Any]] = {"samples": {"qik_redis_up": {"": 0}}, "scale": None}
_MOMENT: Final = 0.2  # seconds
_FRESH: Final = 5.0  # seconds since the last exchange within which Redis counts as there


class Reporter:
    """Answers the parent. `run` is its thread, `last` says the last numbers of a process that ends."""

    def __init__(self, line: socket.socket, capsules: Capsules, tallies: Tallies) -> None:
        self._line = line
        self._capsules = capsules
        self._tallies = tallies
        self._lock = threading.Lock()
        self._free = threading.Lock()
        """Held while Redis is asked."""

    def run(self) -> None:
        """Answer until the parent is gone."""
        while True:
            try:
                asked = self._line.recv(4096)
                if not asked:
                    return
                # The last question alone: older ones were given up while this process could not answer.
                self._answer(asked[-2:-1], asked[-1])
            except OSError:
                return
            except Exception:
                log.exception("metrics could not be told")

    def last(self) -> None:
        """Say what was counted, unasked; waits no longer than a moment, also for an answer that the parent does not read."""
        self._line.settimeout(_MOMENT)
        try:
            self._say(0, {"own": self.own()}, _MOMENT)
        except OSError as error:
            log.warning("the last numbers could not be told", extra={"error": str(error)})

    def _answer(self, what: bytes, number: int) -> None:
        said: dict[str, Any] = {"ready": self._ready(), "own": self.own()}
        if what != REDIS_TOO:
            self._say(number, said)
        elif self._free.acquire(blocking=False):
            # On its own: while Redis keeps that one waiting, this process can still say what it counted.
            threading.Thread(target=self._ask_redis, args=(number, said), daemon=True).start()
        else:
            self._say(number, {**said, "redis": _DOWN})

    def _ask_redis(self, number: int, said: Mapping[str, Any]) -> None:
        try:
            self._say(number, {**said, "redis": redis_says(self._capsules.queues)})
        except OSError:  # the parent is gone
            return
        except Exception:
            log.exception("metrics of Redis could not be told")
        finally:
            self._free.release()

    def _say(self, number: int, said: Mapping[str, Any], patience: float = -1) -> None:
        body = json.dumps(said).encode()
        if not self._lock.acquire(timeout=patience):
            raise TimeoutError("the parent does not read another answer")
        try:
            self._line.sendall(FRAME.pack(len(body), number) + body)
        finally:
            self._lock.release()

    def _ready(self) -> bool:
        now = time.monotonic()
        return all(now - each.crew.looked_at < _FRESH for each in self._capsules)

    def own(self) -> Samples:
        """Return what this process counts: every class and queue that is known, from 0 on."""
        queues, runs = self._capsules.queues, self._tallies.runs()
        samples: Samples = {
            "qik_jobs_total": _ends(self._tallies.ends(runs)),
            "qik_job_duration_seconds": _durations(runs, registry.names(), "class_"),
            "workqueue_queue_duration_seconds": _durations(self._tallies.waits(), queues, "name"),
            "qik_pushes_total": _pushes(self._tallies),
            "qik_threads": {"": self._capsules.size},
            "qik_threads_busy": {"": self._capsules.size - self._capsules.idle},
        }
        samples.update(_under_way(self._capsules, queues))
        return samples


def _ends(found: Mapping[tuple[str, End], int]) -> dict[str, float]:
    names = sorted({*registry.names(), *(name for name, _ in found), UNKNOWN})
    return {
        labels(class_=name, end=end): found.get((name, end), 0) for name in names for end in End
    }


def _durations(tallies: Mapping[str, Tally], known: Iterable[str], label: str) -> dict[str, float]:
    samples: dict[str, float] = {}
    for name in sorted({*known, *tallies}):
        tally = tallies.get(name) or Tally()
        samples.update(histogram(labels(**{label: name}), tally.by_bound(), tally.spent))
    return samples


def _pushes(tallies: Tallies) -> dict[str, float]:
    found = tallies.pushes()
    return {labels(code=code): found[code] for code in Code}


def _under_way(capsules: Capsules, queues: Iterable[str]) -> Samples:
    now, together, longest = (
        time.monotonic(),
        dict.fromkeys(queues, 0.0),
        dict.fromkeys(queues, 0.0),
    )
    for job, since in capsules.running_since():
        spent = max(0.0, now - since)
        together[job.queue] = together.get(job.queue, 0.0) + spent
        longest[job.queue] = max(longest.get(job.queue, 0.0), spent)
    return {
        "workqueue_unfinished_work_seconds": _by_name(together),
        "workqueue_longest_running_processor_seconds": _by_name(longest),
    }


def _by_name(values: Mapping[str, float]) -> dict[str, float]:
    return {labels(name=name): value for name, value in values.items()}


# --- what Redis says -------------------------------------------------------------------------------


def redis_says(served: Iterable[str], read: Callable[[], Stats] = Stats.read) -> dict[str, Any]:
    """Return what Redis says now: `samples`, and `scale` for autoscalers; without `scale` if it does not answer."""
    try:
        stats = read()
        loads = {queue: _load(queue) for queue in served}
    except StoreError as error:
        log.warning("Redis cannot be asked for metrics", extra={"error": str(error)})
        return _DOWN
    later = {queue: load.later if load else 0 for queue, load in loads.items()}
    used = [load.used / load.limit for load in loads.values() if load and load.limit]
    return {
        "samples": {
            **_queues(stats, later),
            **_totals(stats),
            "qik_redis_memory_ratio": {"": max(used, default=0.0)},
        },
        "scale": _scale(stats, later),
    }


def _load(queue: str) -> QueueLoad | None:
    """Return what waits for a queue; None where its key holds something else: `doctor` says so, and others go on."""
    try:
        return load_of(current().store.links, queue)
    except WrongType:
        return None


def _queues(stats: Stats, later: Mapping[str, int]) -> Samples:
    depth = {**dict.fromkeys(later, 0), **{name: each.size for name, each in stats.queues.items()}}
    latency = {name: each.latency for name, each in stats.queues.items()}
    return {
        "workqueue_depth": _by_name(depth),
        "qik_queue_latency_seconds": _by_name({**dict.fromkeys(later, 0.0), **latency}),
        "qik_queue_paused": _by_name({name: each.paused for name, each in stats.queues.items()}),
        "qik_queue_later": _by_name(later),
        "qik_held_jobs": {labels(class_=name): each.jobs for name, each in stats.held.items()},
    }


def _totals(stats: Stats) -> Samples:
    return {
        "qik_redis_up": {"": 1},
        "qik_scheduled_jobs": {"": stats.scheduled},
        "qik_retry_jobs": {"": stats.retries},
        "qik_dead_jobs": {"": stats.dead},
        "qik_processes": {"": stats.processes},
        "qik_runs_total": {"": stats.processed},
        "qik_failures_total": {"": stats.failed},
    }


def _scale(stats: Stats, later: Mapping[str, int]) -> dict[str, Any]:
    """Return what waits for the queues that this worker serves: what an autoscaler of it must know."""
    queues: dict[str, dict[str, float]] = {}
    for name, waiting in later.items():
        queue = stats.queues.get(name)
        size, latency = (queue.size, queue.latency) if queue else (0, 0.0)
        queues[name] = {
            "size": size,
            "later": waiting,
            "backlog": size + waiting,
            "latency": latency,
        }
    return {
        "backlog": sum(each["backlog"] for each in queues.values()),
        "latency": max((each["latency"] for each in queues.values()), default=0.0),
        "queues": queues,
    }
