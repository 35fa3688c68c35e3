"""The demo: a real service is worked off while Redis is emptied and workers die, and nothing is lost."""

from __future__ import annotations

import platform
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import cast

from rich.console import Console
from rich.live import Live
from sqlalchemy import Engine, delete, insert, select

from examples.indexer import faults, services
from examples.indexer.database import reading
from examples.indexer.evidence import End, Evidence, Row, Run, Settings
from examples.indexer.files import Input
from examples.indexer.models import Base, Document, Effect, Status
from examples.indexer.plan import Planned
from examples.indexer.screen import Dashboard, Lines, Screen, View
from examples.indexer.services import Service, Surroundings
from examples.indexer.verdict import DESCRIPTIONS
from examples.indexer.watch import Copies, Watch

_EVERY = 0.1
_STUCK = 20.0
_LATE = 0.85  # of the rows: the next fault no longer waits until the last one has healed
"""Seconds without any progress after which the demo gives up; a lost host comes back in a quarter of that."""


def fill(engine: Engine, rows: list[Input]) -> None:
    """Make the service's tables and insert these rows, pending."""
    Base.metadata.create_all(engine)
    values = [
        {"id": row.id, "path": row.path, "rate": row.rate, "status": Status.PENDING} for row in rows
    ]
    with engine.begin() as connection:
        connection.execute(delete(Effect))
        connection.execute(delete(Document))
        connection.execute(insert(Document), values)


@dataclass(slots=True)
class Progress:
    """Whether anything moves."""

    seen: object = None
    since: float = 0.0

    def stuck(self, now: float, what: object) -> bool:
        """Take in what is seen now; return whether it has stood still for too long."""
        if what != self.seen:
            self.seen, self.since = what, now
        return now - self.since > _STUCK


@dataclass(slots=True)
class Demo:
    """One run: rows, processes, faults, and what was seen."""

    around: Surroundings
    engine: Engine
    watch: Watch
    rows: list[Input]
    planned: list[Planned]
    screen: Screen
    dice: random.Random
    healings: list[faults.Healing] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    copies_before: int = 0
    copies_after: int = 0
    began: float = field(default_factory=time.monotonic)
    copies: Copies = field(default_factory=Copies)
    done: set[int] = field(default_factory=set)
    progress: Progress = field(default_factory=Progress)

    def run(self, running: list[Service]) -> None:
        """Watch the rows being worked off and strike when it is time, until nothing is left or nothing moves."""
        stage = faults.Stage(
            self.around,
            self.engine,
            self.watch,
            running,
            [row for row in self.rows if row.large],
            self.dice,
            self._wait,
        )
        waiting = list(self.planned)
        while self._look() and not self._over(waiting):
            done = len(self.done) / len(self.rows)
            if waiting and done >= waiting[0].share and (self._healed or done >= _LATE):
                self._strike(waiting.pop(0).kind, stage)

    def _strike(self, kind: str, stage: faults.Stage) -> None:
        try:
            healing = faults.strike(kind, stage)
        except faults.NoMoment as error:
            self.missed.append(kind)
            self.screen.say(f"cannot strike: {DESCRIPTIONS[kind]}: {error}")
            return
        self.healings.append(healing)
        hit, running = len(healing.fault.hit), healing.fault.running
        self.screen.say(
            f"{healing.fault.at - self.began:5.1f} s  FAULT: {DESCRIPTIONS[kind]}; {hit} rows hit, {running} running"
        )

    def end(self) -> End:
        """Return what is left in Redis now, and the worst that was seen."""
        copies = self.watch.copies()
        retrying, dead = self.watch.sizes()
        return End(
            self.copies_before,
            self.copies_after,
            sum(copies.queued.values()) - retrying,
            sum(copies.working.values()),
            self.watch.locks(),
            retrying,
            dead,
            exits={},
            seconds=time.monotonic() - self.began,
        )

    @property
    def _healed(self) -> bool:
        return all(healing.fault.healed is not None for healing in self.healings)

    def _over(self, waiting: list[Planned]) -> bool:
        finished = len(self.done) == len(self.rows) and not self.copies.told
        return finished and not waiting and self._healed and not self.watch.locks()

    def _wait(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + _STUCK
        while not condition():
            if not self._look() or time.monotonic() > deadline:
                return False
        return True

    def _look(self) -> bool:
        """Look once, show it, and pause; return whether things still move."""
        time.sleep(_EVERY)
        now = time.monotonic()
        self.copies, self.done = self.watch.copies(), self.watch.done()
        self._count_copies()
        self._heal(now)
        view = View(
            now - self.began,
            len(self.done),
            len(self.rows),
            sum(self.copies.queued.values()),
            sum(self.copies.working.values()),
            tuple(self.healings),
        )
        self.screen.show(view)
        moved = (len(self.done), len(self.healings), *(len(h.healed) for h in self.healings))
        return not self.progress.stuck(now, moved)

    def _count_copies(self) -> None:
        if any(healing.fault.kind in ("flush", "lists") for healing in self.healings):
            self.copies_after = max(self.copies_after, self.copies.most)
        else:
            self.copies_before = max(self.copies_before, self.copies.most)

    def _heal(self, now: float) -> None:
        for healing in self.healings:
            if healing.fault.healed is not None:
                continue
            started = self.watch.started_since(healing.fault.at) if healing.by_run else set()
            if healing.look(now, self.copies, self.done, started):
                took = now - healing.fault.at
                self.screen.say(
                    f"{now - self.began:5.1f} s  healed: {len(healing.fault.hit)} rows, after {took:.1f} s"
                )


def collect(demo: Demo, seed: int, end: End) -> Evidence:
    """Return all that the verdict needs, read from the database and from what was seen."""
    around = demo.around
    server = cast("dict[str, object]", demo.watch.redis.info("server"))
    settings = Settings(
        seed,
        len(demo.rows),
        around.heartbeat,
        around.lease,
        demo.engine.dialect.name,
        f"{server.get('server_name', 'redis')} {server.get('valkey_version') or server['redis_version']}",
        platform.python_version(),
        around.sabotage,
    )
    row = select(*(getattr(Document, item.name) for item in fields(Row))).order_by(Document.id)
    run = select(*(getattr(Effect, item.name) for item in fields(Run))).order_by(Effect.started)
    with reading(demo.engine).connect() as connection:
        rows = [Row(*values) for values in connection.execute(row)]
        runs = [Run(*values) for values in connection.execute(run)]
    return Evidence(settings, rows, runs, [healing.fault for healing in demo.healings], end)


@contextmanager
def screen(console: Console) -> Iterator[Screen]:
    """Show things live on a terminal, in lines elsewhere."""
    if not console.is_terminal:
        yield Lines(console)
        return
    with Live(console=console, refresh_per_second=10, transient=True) as live:
        yield Dashboard(live)


def processes(around: Surroundings) -> list[Service]:
    """Return the demo's workers and reconcilers, not yet started."""
    return [
        *(services.worker(number, around) for number in range(1, services.WORKERS + 1)),
        *(services.reconciler(number, around) for number in range(1, services.RECONCILERS + 1)),
    ]
