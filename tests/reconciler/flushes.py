"""What the tests of flush share: an application, some jobs of every kind, and what Redis holds."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import redis
from sqlalchemy import Engine, select

from qik_core import Job
from qik_core.flushing import Flushing
from qik_core.passes import Passes
from reconciler import Reconciler, derive
from reconciler.engines import Engines
from reconciler.flush import By, Flushed, flush
from reconciler.survey import Means, Plan, Selection, survey
from tests.reconciler.shop import Item, fill

ALL = Selection(everything=True)
WORK = Selection(classes=frozenset({"Work"}))
MAIL = Selection(classes=frozenset({"Mail"}))
RUBY = (
    b'{"class":"RubyMail","args":[%d],"jid":"%024x","queue":"work","retry":true,"enqueued_at":1.5}'
)


class Shop:
    """An application with a class that a reconciler tells, and one that none tells; and its Redis and SQL."""

    def __init__(self, home: Engine, engines: Engines, raw: Any) -> None:
        class Work(Job, queue="work", unique_for=3600):
            def perform(self, item_id: int) -> None: ...

        class Mail(Job, queue="work"):
            def perform(self, to: str) -> None: ...

        class Items(Reconciler, every=60):
            pending = derive(Work, select(Item.id).where(Item.state == "pending"), tenant=Item.note)

        self.work: Any = Work
        self.mail: Any = Mail
        self.home = home
        self.engines = engines
        self.raw: Any = raw

    def rows(self, *ids: int, **values: Any) -> None:
        """Insert pending rows."""
        fill(self.home, ids, **values)

    def push(self, *ids: int) -> None:
        """Push the jobs of rows."""
        for each in ids:
            self.work.perform_async(each)

    def mails(self, *to: str) -> None:
        """Push jobs that nothing brings back."""
        for each in to:
            self.mail.perform_async(each)

    def one_of_each(self) -> None:
        """Let a job wait at every place: rows 1 to 6 and 20, mails at three."""
        self.rows(1, 2, 3, 4, 5, 6, 20)
        self.push(1, 2, 3)
        self.push(99)  # no such row
        self.work.perform_in(timedelta(minutes=5), 4)
        self.work.perform_in(timedelta(minutes=6), 98)
        self.work.perform_in(timedelta(minutes=7), 5)
        self.move("schedule", "retry", 5)
        self.mails("a", "b")
        self.mail.perform_in(timedelta(minutes=5), "c")
        self.mail.perform_in(timedelta(minutes=7), "d")
        self.move("schedule", "dead", "d")
        Passes().push(self.work, [(6,)], delays=[120.0])
        self.push(20)
        self.move("queue:work", "qik:suspect:work", 20)
        self.raw.sadd("qik:suspects", "work")

    def move(self, source: str, target: str, arg: object) -> None:
        """Move one job by hand, with its count."""
        for raw in self.raws(source):
            if f'"args":[{_json(arg)}]'.encode() in raw:
                if source == "schedule":
                    score = self.raw.zscore(source, raw)
                    self.raw.zrem(source, raw)
                else:
                    score = 1.0
                    self.raw.lrem(source, 1, raw)
                if target in ("retry", "dead"):
                    self.raw.zadd(target, {raw: score})
                else:
                    self.raw.lpush(target, raw)
                self.raw.decr(f"qik:n:{source}")
                if target != "dead":
                    self.raw.incr(f"qik:n:{target}")

    def raws(self, key: str) -> list[bytes]:
        """Return what a list or sorted set holds."""
        if self.raw.type(key) == b"list":
            found: list[bytes] = self.raw.lrange(key, 0, -1)
        else:
            found = self.raw.zrange(key, 0, -1)
        return found

    def args(self, *keys: str) -> Counter[str]:
        """Return the arguments of all jobs at these places, or everywhere."""
        raws = [raw for name in keys for raw in self.raws(name)] if keys else self.everywhere()
        return Counter(raw.split(b'"args":')[1].split(b",")[0].decode() for raw in raws)

    def everywhere(self) -> list[bytes]:
        """Return every job that waits or is dead."""
        names = [name.decode() for name in self.raw.scan_iter("*") if _has_jobs(name)]
        return [raw for name in names for raw in self.raws(name)]

    def means(self, who: str = "alice") -> Means:
        """Return what a flush works with: new connections."""
        return Means(self.engines, Flushing(who=who), Passes())

    def plan(self, selection: Selection = ALL) -> Plan:
        """Return what a flush would do."""
        return survey(self.means(), selection)

    def flush(self, selection: Selection = ALL, **rest: Any) -> Flushed:
        """Flush, as somebody who has just seen the plan."""
        return flush(self.plan(selection), self.means(), by(**rest))

    def locks(self) -> dict[bytes, bytes]:
        """Return every lock of the present generation."""
        generation = self.raw.get("qik:epoch").split()[1].decode()
        found = dict(self.raw.hgetall(f"qik:unique:{generation}"))
        found.pop(b"#", None)
        return found

    def jobs(self) -> int:
        """Return how many jobs of ours wait."""
        return sum(self.args().values())

    def keys(self, *ids: int) -> list[bytes]:
        """Return the keys of rows."""
        return list(self.work.definition.digests([(each,) for each in ids]))

    def unsound(self) -> list[str]:
        """Return where counts and locks do not fit the jobs that are there, and what is still aside."""
        found = [f"aside: {key!r}" for key in self.raw.scan_iter("qik:trash:*")]
        locked: set[bytes] = set()
        for name in self.raw.scan_iter("*"):
            if not _has_jobs(name) or name == b"dead":
                continue
            ours = [raw for raw in self.raws(name.decode()) if raw.startswith(b'{"qik":"')]
            counted = int(self.raw.get(b"qik:n:" + name) or 0)
            if counted != len(ours):
                found.append(f"{name!r}: counted {counted}, there {len(ours)}")
            locked |= {raw[8:30] for raw in ours if not raw.startswith(b'{"qik":"-"')}
        wrong = set(self.locks()) ^ locked
        return found + ([f"locks: {wrong}"] if wrong else [])


def _json(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _has_jobs(name: bytes) -> bool:
    prefixes = (b"queue:", b"qik:suspect:", b"qik:later:", b"qik:trash:", b"qik:held:")
    return name in (b"schedule", b"retry", b"dead") or name.startswith(prefixes)


def by(*, who: str = "alice", lose: Iterable[str] = (), **rest: Any) -> By:
    """Return who flushes."""
    return By(who=who, reason="a test", lose=frozenset(lose), **rest)


def dumps(raw: redis.Redis, pattern: str = "*", but: Iterable[bytes] = ()) -> dict[bytes, str]:
    """Return key → digest of its serialised value."""
    left = set(but)
    names = [name for name in raw.scan_iter(pattern, count=1000) if name not in left]
    found: dict[bytes, str] = {}
    for at in range(0, len(names), 1000):
        pipe = raw.pipeline(transaction=False)
        some = names[at : at + 1000]
        for name in some:
            pipe.dump(name)
        for name, value in zip(some, pipe.execute(), strict=True):
            found[name] = hashlib.sha1(value or b"", usedforsecurity=False).hexdigest()
    return found


class watching:  # noqa: N801 - reads as a word
    """Collects what MONITOR says while a block runs; scripts by their own commands."""

    def __init__(self, raw: redis.Redis, seen: list[str]) -> None:
        self._raw, self._seen = raw, seen

    def __enter__(self) -> None:
        self._monitor: Any = self._raw.monitor()  # type: ignore[no-untyped-call]
        self._monitor.__enter__()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        for said in self._monitor.listen():
            self._seen.append(f"{said['client_type']} {said['command']}")
            if "the end of the watch" in said["command"]:
                return

    def __exit__(self, *_: object) -> None:
        self._raw.echo("the end of the watch")
        self._thread.join(60)
        self._monitor.__exit__(None, None, None)
