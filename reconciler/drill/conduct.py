"""A drill from its first process to its last: read `conduct` first."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from qik_core.drilling import Place, Scratch
from qik_core.passes import Passes
from qik_core.settings import current, use
from qik_core.settings import load as load_settings
from reconciler import application
from reconciler.definition import Definition
from reconciler.drill import places, processes, pusher
from reconciler.drill.course import MOMENT, Course, Show
from reconciler.drill.errors import NotDrained, NothingToDrill
from reconciler.drill.evidence import Evidence, Run
from reconciler.drill.kinds import Kind
from reconciler.drill.load import OWN, AppLoad, Load, load_of
from reconciler.drill.places import Wanted
from reconciler.drill.processes import Process, Surroundings
from reconciler.drill.rows import FOR_GOOD, Pending, Rows
from reconciler.drill.runs import Runs
from reconciler.drill.strikes import Sight, Stage
from reconciler.engines import Engines

HEARTBEAT: Final = 0.5
LEASE: Final = 5.0
"""Seconds: a tenth and a sixth of what production has, so that a drill takes minutes. A shorter lease would be lost by
processes that live, on a machine that is busy with other things."""
_RECONCILERS: Final = 2
_NOTICED: Final = 3.0
"""Seconds, beyond a heartbeat, until jobs start again after a loss of all data."""
_DISTRIBUTION: Final = "qik-core"


@dataclass(frozen=True, slots=True)
class Order:
    """What drill is wanted."""

    wanted: Wanted
    kinds: tuple[Kind, ...]
    seconds: float
    """How long the load lasts at least."""
    rows: int
    """Rows of the steady load within that time; it goes on at that rate until the last fault has healed."""
    folder: Path
    """Where logs, notes and a scratch database go."""

    @property
    def app(self) -> str:
        """The module that is drilled."""
        return self.wanted.app or OWN


def conduct(order: Order, show: Show) -> Evidence:
    """Run a drill and return what was seen. The settings of this process are the drill's from then on.

    Raises:
        Unsafe: something that is not the drill's own would be broken.
        NothingToDrill: the application has no pending row, and no way to make any.
        ProcessFailed: a process ended by itself.
        StoreError, SqlUnavailable, NotMigrated, SettingsError: see there.
    """
    databases = places.databases_of(order.wanted, order.folder)
    with places.redis_of(order.wanted) as redis_url:
        _settle(redis_url, databases, order.folder)
        definitions = application.reconcilers(order.app)
        places.check_settings(order.wanted, redis_url, databases, current())
        own = order.app == OWN
        places.prepare(databases, upgrade=own or order.wanted.database_url is not None)
        around = _surroundings(order, redis_url, databases, definitions)
        engines, scratch = Engines(databases), Scratch(redis_url)
        load = load_of(order.app, engines)
        try:
            load.prepare()
            rows = Rows(definitions, engines, Passes())
            _refuse_nothing(order.app, load, rows)
            return _run(order, around, show, load, scratch, rows)
        finally:
            with suppress(SQLAlchemyError):  # it may be what the drill has failed of
                load.remove()
            scratch.close()
            engines.dispose()


def _run(
    order: Order, around: Surroundings, show: Show, load: Load, scratch: Scratch, rows: Rows
) -> Evidence:
    began, date = monotonic(), datetime.now(UTC)
    workers = [processes.worker(each, around) for each in range(1, processes.WORKERS + 1)]
    passes = [processes.reconciler(each, around) for each in range(1, _RECONCILERS + 1)]
    pushing = processes.pusher(around, order.rows / order.seconds)
    course = Course(began, [*workers, *passes, pushing], show)
    runs = Runs(order.folder, began)
    course.stage = Stage(scratch, rows, runs, load, workers, course, around.heartbeat, around.lease)
    with processes.running([*workers, *passes, pushing]):
        course.wait(lambda _: len(runs) > 0, 2 * MOMENT)
        course.run(order.kinds, order.seconds)
        pushing.check()
        exits = _stop([pushing])
        last, given_up = _drained(course, partial(_is_done, scratch, own=order.app == OWN))
        left = course.left(last)
        seconds = course.now()
        exits |= _stop([*workers, *passes])
    runs.look()
    edges, mine = pusher.read(order.folder), load.edges
    return Evidence(
        settings=_facts(order, around, date, scratch, rows.engines),
        seconds=seconds,
        asked=order.kinds,
        samples=tuple(course.samples),
        faults=course.faults(),
        runs=tuple(_named(run, course.rows.get(run.key)) for run in runs.all()),
        cuts=tuple(course.stage.cuts),
        left=replace(left, exits=exits),
        edges=replace(
            edges,
            told=edges.told + mine.told,
            refused=edges.refused + mine.refused,
            unknown=edges.unknown + mine.unknown,
        ),
        threads=processes.WORKERS * processes.THREADS,
        rest=LEASE + HEARTBEAT + _NOTICED,
        effects=load.effects(),
        given_up=given_up,
        optional=order.app != OWN,
    )


def _drained(course: Course, done: Callable[[Sight], bool]) -> tuple[Sight, str]:
    """Return what is seen in the end, and why that came too early: what was seen until then is worth a report."""
    try:
        return course.drain(done), ""
    except NotDrained as error:
        return course.look(), f"{type(error).__name__}: {error}"


def _named(run: Run, row: Pending | None) -> Run:
    return run if row is None else replace(run, key=row.name)


def _settle(redis_url: str, databases: Mapping[str, str], folder: Path) -> None:
    """Give this process the settings of the drill: nothing of the caller's environment or file comes in.

    They come from an environment, as in the processes that the drill starts: what an application names in code goes before
    that, and must be seen here. It may read the environment itself.
    """
    urls = {**processes.urls(databases), "REDIS_URL": redis_url}
    os.environ.update(urls)
    environ = {**urls, "QIK_HEARTBEAT": str(HEARTBEAT), "QIK_LEASE": str(LEASE)}
    use(load_settings(environ=environ, folder=folder))


def _surroundings(
    order: Order, redis_url: str, databases: Mapping[str, str], definitions: Sequence[Definition]
) -> Surroundings:
    named = [name for name, _ in order.wanted.settings.queues] if order.wanted.app else []
    queues = [name for each in definitions for name in each.queues]
    return Surroundings(
        order.folder,
        order.app,
        redis_url,
        databases,
        tuple(dict.fromkeys([*queues, *named])),
        HEARTBEAT,
        LEASE,
    )


def _refuse_nothing(app: str, load: Load, rows: Rows) -> None:
    if isinstance(load, AppLoad) and load.hook is None and not rows.pending():
        raise NothingToDrill(
            f"{app} has no pending row, and a drill needs some: insert rows, or define drill_rows(count) in {app}, "
            "which adds so many"
        )


def _is_done(scratch: Scratch, seen: Sight, *, own: bool) -> bool:
    """Whether nothing is left to do; of an application of one's own, jobs may stay that have no row."""
    if not own:
        rest = [key for key in seen.pending if seen.held.get(key) not in FOR_GOOD]
        return not rest and not seen.census.count(Place.RUNNING)
    return not seen.pending and not seen.census.count() and not scratch.locks()


def _stop(wanted: Sequence[Process]) -> dict[str, int]:
    for process in wanted:
        process.ask_to_stop()
    return {process.name: process.wait() for process in wanted}


def _facts(
    order: Order, around: Surroundings, date: datetime, scratch: Scratch, engines: Engines
) -> dict[str, str]:
    """Return how it was done, for people."""
    home = engines.home()
    with home.connect() as connection:
        found = connection.dialect.server_version_info or ()
    rate = order.rows / order.seconds
    return {
        "began": f"{date:%Y-%m-%d %H:%M:%S} UTC",
        "application": "the drill's own service" if order.app == OWN else order.app,
        "load": f"{rate:.0f} rows a second, and a burst for each fault",
        "workers": f"{processes.WORKERS} processes of {processes.THREADS} threads, queues {', '.join(around.queues)}",
        "reconcilers": f"{_RECONCILERS} processes",
        "heartbeat, lease": f"{around.heartbeat:g} s, {around.lease:g} s",
        "Redis": f"{scratch.server()}{' of its own' if order.wanted.redis_url is None else ''}",
        "database": f"{home.dialect.name} {'.'.join(map(str, found))}",
        "qik-core": _try(lambda: version(_DISTRIBUTION)),
        "Python": f"{platform.python_version()} on {platform.system()}",
    }


def _try(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except PackageNotFoundError:
        return "not installed"
