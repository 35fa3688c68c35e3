"""The queues of Python beside ours: how each is started, and where it keeps its jobs. Their own side is in `peers`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import psycopg
from redis import Redis

from benchmarks.bench import Bench, MeasurementFailed
from benchmarks.names import QUEUE, CaseName
from benchmarks.workers import CONCURRENCY, Site

HERE: Final = Path(__file__).with_name("peers")
_ALL: Final = frozenset({CaseName.PUSH, CaseName.DRAIN, CaseName.DRAIN_ALL_CORES, CaseName.LATENCY})
_WITH_BULK: Final = _ALL | {CaseName.BULK}
_HELD: Final = "bench-held:"
_THREADS: Final = str(CONCURRENCY)
_IN_TIME: Final[Mapping[str, Any]] = {
    "connect_timeout": 10,
    "options": "-c statement_timeout=60s -c lock_timeout=30s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A queue of Python, in an environment of its own; see `System`."""

    name: str
    worker: tuple[str, ...]
    """The command of one process; the first word is a program of its environment."""
    queue: tuple[str, ...] = ()
    """Keys with waiting jobs, which are renamed while a worker boots; empty: the clock starts with the first job."""
    leaves: tuple[str, ...] = ()
    """Patterns of all keys that hold jobs, waiting or not."""
    slow: int = 10
    """It is given one of so many jobs."""
    cases: frozenset[CaseName] = _ALL
    programs: Path = Path()
    """Of its environment."""
    postgres: str = ""
    """Its database, where it has one."""

    @property
    def requirements(self) -> Path:
        """What its environment has."""
        return HERE / f"{self.name}.txt"

    def share(self, n: int) -> int:
        """Return how many of n jobs it is given."""
        return max(n // self.slow, 1)

    def fresh(self, bench: Bench) -> None:
        """Empty the server, and the table of the one that has one."""
        bench.fresh()
        if self.postgres:
            with self._database() as connection:
                connection.execute("TRUNCATE procrastinate_jobs CASCADE")

    def push(self, bench: Bench, kind: str, n: int, argument: object = "") -> Mapping[str, Any]:
        """Push by its own side; what has no bulk pushes one by one."""
        del argument
        what = "push" if kind == "bulk" and CaseName.BULK not in self.cases else kind
        return bench.run(self._side(what, n), BENCH_POSTGRES=self.postgres)

    def hold(self, bench: Bench, kind: str, n: int) -> None:
        """Put the jobs aside."""
        if n:
            self.push(bench, kind, n)
            for key in self.queue:
                bench.redis.rename(key, _HELD + key)

    def commands(self, processes: int) -> Sequence[Sequence[str]]:
        """Return one command for each process."""
        first, *rest = self.worker
        return [
            ["env", f"BENCH_POSTGRES={self.postgres}", str(self.programs / first), *rest]
        ] * processes

    def ready(self, bench: Bench, site: Site, processes: int) -> bool:
        """Return whether every process has done a job that says so, and all are idle; otherwise push some more."""
        if not self.queue and self.left(bench):
            return True
        here, waiting = len(list(site.folder.glob("here-*"))), self._waiting(bench)
        if here < processes and not waiting:
            self.push(bench, "warm", processes)
        return here >= processes and not waiting

    def release(self, bench: Bench) -> bool:
        """Give the keys their names."""
        for key in self.queue:
            if bench.redis.exists(_HELD + key):
                bench.redis.rename(_HELD + key, key)
        return bool(self.queue)

    def pushed(self, bench: Bench, n: int, _locks: int) -> tuple[str, ...]:
        """Return whether there are n jobs."""
        found = self._waiting(bench)
        return () if found == n else (f"jobs: {found}, not {n}",)

    def left(self, bench: Bench) -> tuple[str, ...]:
        """Return which keys still hold jobs, or how many rows."""
        if self.postgres:
            return (f"rows: {self._rows()}, not 0",) if self._rows() else ()
        keys = {key for pattern in self.leaves for key in bench.redis.scan_iter(match=pattern)}
        sizes = {key.decode(): size(bench.redis, key) for key in sorted(keys)}
        return tuple(f"{key}: {found}, not 0" for key, found in sizes.items() if found)

    def _side(self, kind: str, n: int) -> list[str]:
        python = str(self.programs / "python")
        return [python, "-m", "benchmarks.peers.side", self.name, kind, str(n)]

    def _waiting(self, bench: Bench) -> int:
        if self.postgres:
            return self._rows()
        keys = self.queue or tuple(bench.redis.scan_iter(match=self.leaves[0]))
        return sum(size(bench.redis, key) for key in keys)

    def _rows(self) -> int:
        """Return how many jobs its database has."""
        with self._database() as connection:
            row = connection.execute("SELECT count(*) FROM procrastinate_jobs").fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def _database(self) -> Iterator[psycopg.Connection]:
        """Yield a connection to its database. Raises MeasurementFailed."""
        try:
            with psycopg.connect(self.postgres, **_IN_TIME) as connection:
                yield connection
        except psycopg.Error as error:
            raise MeasurementFailed(f"the database of {self.name}: {error}") from error


def size(redis: Redis, key: str | bytes) -> int:
    """Return how many members a key has; 1 for a string, 0 for what is not there."""
    ask: Mapping[bytes, Callable[[str | bytes], object]] = {
        b"list": redis.llen,
        b"hash": redis.hlen,
        b"set": redis.scard,
        b"zset": redis.zcard,
        b"stream": redis.xlen,
        b"string": redis.exists,
    }
    kind = cast("bytes", redis.type(key))
    return cast("int", ask[kind](key)) if kind in ask else 0


_MODULE: Final = "benchmarks.peers."
PEERS: Final = (
    Peer(
        name="celery",
        worker=(
            "celery", "-A", f"{_MODULE}celery", "worker", "-P", "solo", "-Q", QUEUE, "-l", "WARNING",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ),
        queue=(QUEUE,),
        leaves=(QUEUE, "unacked*"),
    ),
    Peer(
        name="rq",
        worker=("rq", "worker", "--worker-class", "rq.worker.SimpleWorker", "-q", QUEUE),
        queue=(f"rq:queue:{QUEUE}",),
        leaves=(f"rq:queue:{QUEUE}", "rq:job:*", f"rq:wip:{QUEUE}"),
        slow=40,
        cases=_WITH_BULK,
    ),
    Peer(
        name="dramatiq",
        worker=("dramatiq", f"{_MODULE}dramatiq", "-p", "1", "-t", _THREADS, "-Q", QUEUE),
        queue=(f"dramatiq:{QUEUE}",),
        leaves=(f"dramatiq:{QUEUE}", f"dramatiq:{QUEUE}.msgs", "dramatiq:__acks__*"),
        slow=5,
    ),
    Peer(
        name="huey",
        worker=("huey_consumer", f"{_MODULE}huey.app", "-w", _THREADS, "-q"),
        queue=(f"huey.redis.{QUEUE}",),
        leaves=(f"huey.redis.{QUEUE}", f"huey.schedule.{QUEUE}"),
        slow=4,
    ),
    Peer(
        name="arq",
        worker=("arq", f"{_MODULE}arq.WorkerSettings"),
        queue=(QUEUE,),
        leaves=(QUEUE, "arq:job:*", "arq:in-progress:*", "arq:retry:*"),
    ),
    Peer(
        name="saq",
        worker=("saq", "-q", f"{_MODULE}saq.settings"),
        queue=(f"saq:{QUEUE}:queued",),
        leaves=(f"saq:{QUEUE}:queued", f"saq:{QUEUE}:incomplete", f"saq:{QUEUE}:active", "saq:job:*"),
    ),
    Peer(
        name="taskiq",
        worker=(
            "taskiq", "worker", f"{_MODULE}taskiq:broker", "-w", "1", "--log-level", "WARNING",
        ),
        queue=(QUEUE,),
        leaves=(QUEUE,),
        slow=8,
    ),
    Peer(
        name="streaq",
        worker=("streaq", "run", f"{_MODULE}streaq:worker"),
        leaves=(f"streaq:{QUEUE}:queues:*", f"streaq:{QUEUE}:task:data:*"),
        cases=_WITH_BULK,
    ),
    Peer(
        name="procrastinate",
        worker=(
            "procrastinate", f"--app={_MODULE}procrastinate.app", "worker", "-q", QUEUE, "-c", _THREADS,
            "--delete-jobs", "always",
        ),
        slow=40,
        cases=_WITH_BULK,
    ),
)  # fmt: skip
