"""The observer: looks at Redis and SQL from outside, with key names of its own and no code of the engine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine, select

from examples.indexer.database import reading
from examples.indexer.models import Document, Effect, Status

QUEUES: Final = ("urgent", "index")
_LISTS: Final = [
    key for name in QUEUES for key in (f"queue:{name}", f"qik:suspect:{name}", f"qik:held:{name}")
]
_ZSETS: Final = [*(f"qik:later:{name}" for name in QUEUES), "schedule", "retry"]


@dataclass(frozen=True, slots=True)
class Copies:
    """Which documents have jobs in Redis at one instant, and how many."""

    queued: Counter[int] = field(default_factory=Counter)
    """In lists and sets."""
    working: Counter[int] = field(default_factory=Counter)
    """Fetched and not settled."""

    @property
    def told(self) -> set[int]:
        """Documents with a job."""
        return {*self.queued, *self.working}

    @property
    def most(self) -> int:
        """Most jobs of one document."""
        return max((self.queued + self.working).values(), default=0)


@dataclass(frozen=True, slots=True)
class Open:
    """A run that has started and not ended."""

    document_id: int
    pid: int
    parent: int
    started: float


class Watch:
    """Looks at one Redis and one database."""

    def __init__(self, redis_url: str, engine: Engine) -> None:
        self.redis: Redis = Redis.from_url(
            redis_url, socket_timeout=5, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0)
        )
        self._engine = reading(engine)

    def copies(self) -> Copies:
        """Return every job in Redis, read in one transaction."""
        hashes = self._keys("qik:working:*") + self._keys("qik:recovering:*")
        pipe = self.redis.pipeline(transaction=True)
        for key in _LISTS:
            pipe.lrange(key, 0, -1)
        for key in _ZSETS:
            pipe.zrange(key, 0, -1)
        for name in hashes:
            pipe.hvals(name)
        replies = pipe.execute()
        waiting = len(_LISTS) + len(_ZSETS)
        return Copies(
            Counter(_documents(replies[:waiting])), Counter(_documents(replies[waiting:]))
        )

    def listed(self) -> int:
        """Return how many jobs stand in the queues' lists."""
        return sum(self.redis.llen(f"queue:{name}") for name in QUEUES)

    def locks(self) -> int:
        """Return how many unique locks there are, of any generation."""
        return sum(self._fields(key) for key in self._keys("qik:unique:*"))

    def sizes(self) -> tuple[int, int]:
        """Return how many jobs wait to be retried, and how many are dead."""
        return self.redis.zcard("retry"), self.redis.zcard("dead")

    def done(self) -> set[int]:
        """Return the documents that are done."""
        query = select(Document.id).where(Document.status == Status.DONE)
        with self._engine.connect() as connection:
            return set(connection.scalars(query))

    def open_runs(self) -> list[Open]:
        """Return the runs that have not ended, those of dead processes included."""
        query = select(Effect.document_id, Effect.pid, Effect.parent, Effect.started).where(
            Effect.ended.is_(None)
        )
        with self._engine.connect() as connection:
            return [Open(*row) for row in connection.execute(query)]

    def started_since(self, moment: float) -> set[int]:
        """Return the documents of which a run has started since then."""
        query = select(Effect.document_id).where(Effect.started > moment)
        with self._engine.connect() as connection:
            return set(connection.scalars(query))

    def _keys(self, pattern: str) -> list[bytes]:
        return sorted(cast("Iterator[bytes]", self.redis.scan_iter(match=pattern, count=1000)))

    def _fields(self, key: bytes) -> int:
        fields = cast("dict[bytes, bytes]", self.redis.hgetall(key))
        return len(fields.keys() - {b"#", b"@"})


def _documents(replies: list[list[bytes]]) -> Iterator[int]:
    for reply in replies:
        for payload in reply:
            job = _job(payload)
            if job is not None:
                yield int(job["args"][0])


def _job(payload: bytes) -> dict[str, Any] | None:
    """Return the job in a payload; None for what stands beside jobs, such as the number of an exchange."""
    try:
        job = json.loads(payload)
    except ValueError:
        return None
    return job if isinstance(job, dict) and job.get("class") == "IndexFile" else None
