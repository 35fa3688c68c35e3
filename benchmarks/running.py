"""A run: the chosen cases, the systems that take turns, one private server, and what comes of it."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, cast

import click
from redis import Redis
from rich.console import Console

from benchmarks import show
from benchmarks.bench import Bench, MeasurementFailed
from benchmarks.cases import Case
from benchmarks.report import LIMIT, OURS, Line, Results, text_of
from benchmarks.workers import CONCURRENCY, CORES, System
from qik_core.embedded import Embedded, Kind, NoServer
from tests import servers

NO_POSTGRES: Final = "apt-get install postgresql"
_WIDE: Final = 140
SERVER: Final = "redis-server on a unix socket, no persistence, noeviction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be run."""

    cases: Sequence[Case]
    peers: Sequence[System] = ()
    rounds: int = 3
    scale: float = 1.0
    only: frozenset[str] = frozenset()
    """Systems; empty: all."""


def run(
    console: Console, bench: Bench, order: Order, versions: Mapping[str, str]
) -> tuple[list[Line], list[str]]:
    """Run everything, say how far it is, print the table; return the lines, and what failed."""
    results = measure(console, bench, order)
    lines = results.lines(versions)
    console.print(show.table(lines))
    for line in lines:
        for problem in line.void:
            console.print(f"VOID: {line.case} by {line.system}: {problem}", style="red")
    for failure in results.failures:
        console.print(f"FAILED: {failure}", style="red")
    return lines, results.failures


def measure(console: Console, bench: Bench, order: Order) -> Results:
    """Let every system of every case run in each round, in an order that turns from round to round."""
    results = Results()
    for case in order.cases:
        n, systems = case.scaled(order.scale), case.systems(order.peers)
        names = [name for name in systems if not order.only or name in order.only]
        for round_ in range(order.rounds):
            turn = round_ % len(names)
            for name in names[turn:] + names[:turn]:
                console.print(f"{case.name}, round {round_ + 1} of {order.rounds}: {name} …")
                try:
                    found = systems[name](bench, n, round_)
                    results.measures += [replace(each, round=round_) for each in found]
                except MeasurementFailed as error:
                    if name in (OURS, LIMIT):
                        raise click.ClickException(f"{case.name} by {name}: {error}") from error
                    results.failures.append(f"{case.name} by {name}: {error}")
    return results


def console() -> Console:
    """Return where it is told: wide enough for the table where nobody's terminal says how wide it is."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


@contextmanager
def private(database_url: str) -> Iterator[Bench]:
    """Yield a private server without persistence: Redis where it is installed, else what the development extra brings."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _server() as server:
        yield Bench(server.url, Path(folder), Redis.from_url(server.url), database_url)


@contextmanager
def postgres() -> Iterator[str]:
    """Yield an empty database of a private PostgreSQL. Raises ClickException where none is installed."""
    if servers.find_postgres() is None:
        raise click.ClickException(f"there is no PostgreSQL on this machine: {NO_POSTGRES}")
    server = servers.Postgres()
    server.start()
    try:
        with server.database() as url:
            yield url
    finally:
        server.stop()


def _server() -> Embedded:
    try:
        return Embedded(Kind.REDIS)
    except NoServer:
        return Embedded()


def versions_of(redis: Redis, peers: Mapping[str, str]) -> dict[str, str]:
    """Return the versions without which a result is worth nothing."""
    server = cast("dict[str, object]", redis.info("server"))
    name = str(server.get("server_name", "redis"))
    return {
        "machine": f"{CORES} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "qik": _own_version(),
        "redis-py": version("redis"),
        name: str(server.get("valkey_version") or server["redis_version"]),
        **peers,
    }


def _own_version() -> str:
    try:
        return version("qik-core")
    except PackageNotFoundError:
        return "as in this folder, not installed"


def introduce(console: Console, versions: Mapping[str, str]) -> None:
    """Say what is measured with what."""
    console.print(", ".join(f"{name} {text}" for name, text in versions.items()), soft_wrap=True)
    console.print(
        f"one private server for all: {SERVER}; workers: {CONCURRENCY} threads or coroutines where there are any,"
        " no line per job unless the case says so; systems take turns within each round",
        soft_wrap=True,
    )
    load = os.getloadavg()[0]
    if load > CORES / 2:
        console.print(
            f"this machine is busy (load {load:.1f}): take nothing from figures, little from ratios",
            style="red",
        )


def finish(lines: Sequence[Line], missing: Sequence[str], file: Path | None) -> None:
    """Write all of it into a file, if one is wanted, and end the process: with 1 if anything was void or is missing."""
    if file is not None:
        file.write_text(text_of(lines, missing))
    sys.exit(1 if missing or any(line.void for line in lines) else 0)
