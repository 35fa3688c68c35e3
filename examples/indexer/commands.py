"""The two commands: run the demo, and judge what one has left behind."""

from __future__ import annotations

import os
import random
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

import click
from redis import Redis, RedisError
from rich.console import Console
from sqlalchemy import Engine, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from examples.indexer import evidence, sabotage, services
from examples.indexer.database import connect
from examples.indexer.demo import Demo, collect, fill, processes, screen
from examples.indexer.files import Input, TooFewFiles, choose
from examples.indexer.models import Status
from examples.indexer.plan import plan
from examples.indexer.sabotage import Part, tamper
from examples.indexer.screen import verdict
from examples.indexer.services import ROOT, Surroundings
from examples.indexer.verdict import judge, sound
from examples.indexer.watch import Watch
from qik_core.embedded import Embedded, NoServer

ROWS = 2000
FEWEST = 200
HEARTBEAT = 0.5
LEASE = 3.0
SECONDS = 20.0
FINDING, USAGE, UNSAFE, NO_REDIS, NO_SQL = 1, 2, 3, 4, 5
"""Exit codes."""


class Refused(click.ClickException):
    """Something that ends the demo before it began."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message, and exit with a code of our own."""
        super().show(file)
        sys.exit(self.code)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a demo, as given."""

    rows: int
    seconds: float
    redis_url: str | None
    database_url: str | None
    seed: int | None
    part: str | None
    folder: Path | None


@click.group()
def main() -> None:
    """Index the standard library's files while everything is done to break it."""


@main.command()
@click.option(
    "--rows", default=ROWS, show_default=True, type=click.IntRange(FEWEST), help="How many files."
)
@click.option(
    "--seconds",
    default=SECONDS,
    show_default=True,
    type=click.FloatRange(8.0),
    help="How long the files take to read where nothing goes wrong.",
)
@click.option("--redis-url", help="An empty Redis. Without it, one is started.")
@click.option(
    "--database-url", help="SQLite, PostgreSQL or MariaDB. Without it, SQLite in the folder."
)
@click.option("--seed", type=int, help="Decides which fault happens when.")
@click.option(
    "--sabotage",
    "part",
    type=click.Choice([part.value for part in Part]),
    help="Break one part on purpose: the verdict must notice.",
)
@click.option("--evidence", "folder", type=click.Path(path_type=Path), help="Where it stays.")
def demo(**given: Any) -> None:
    """Work off real rows while Redis is emptied and workers die; end with a verdict."""
    options = Options(**given)
    seed = secrets.randbelow(10_000) if options.seed is None else options.seed
    folder = _folder(options.folder, seed)
    console = Console(highlight=False)
    console.print(f"seed {seed}; evidence in {folder}", soft_wrap=True)
    signal.signal(signal.SIGTERM, _interrupt)
    files = _files(options.rows, options.seconds)
    with _redis(options.redis_url) as redis:
        database = options.database_url or f"sqlite:///{folder / 'demo.sqlite3'}"
        around = Surroundings(folder, redis, database, HEARTBEAT, LEASE, options.part or "")
        _run(console, around, files, seed)
    if options.part == Part.VERDICT:
        console.print(f"sabotage: {tamper(folder, random.Random(seed))}")
    _judge(console, folder)


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def verify(folder: Path) -> None:
    """Judge the evidence that a demo has left in FOLDER, hashing every file again."""
    _judge(Console(highlight=False), folder)


def _run(console: Console, around: Surroundings, files: list[Input], seed: int) -> None:
    os.environ.update(around.environment())  # this process pushes edges, by the same settings
    sabotage.apply(around.sabotage)
    engine = _database(around.database_url)
    fill(engine, [file for file in files if not file.large])
    services.upgrade(around)
    watch = Watch(around.redis_url, engine)
    with services.closing(processes(around)) as running, screen(console) as shown:
        show = Demo(around, engine, watch, files, plan(seed), shown, random.Random(seed))
        show.run(running)
        left = show.end()
        for service in running:
            service.ask_to_stop()
        exits = {service.name: service.wait() for service in running}
    evidence.write(around.folder, collect(show, seed, replace(left, exits=exits)))


def _files(rows: int, seconds: float) -> list[Input]:
    try:
        return choose(rows, seconds, services.WORKERS * services.CONCURRENCY)
    except TooFewFiles as error:
        raise Refused(str(error), USAGE) from error


def _database(url: str) -> Engine:
    """Return an engine that has answered."""
    try:
        engine = connect(url)
        with engine.connect() as connection:
            connection.execute(select(1))
    except (SQLAlchemyError, ImportError) as error:
        shown = make_url(url).render_as_string(hide_password=True)
        raise Refused(f"cannot use {shown}: {error}. Check --database-url.", NO_SQL) from error
    return engine


@contextmanager
def _redis(url: str | None) -> Iterator[str]:
    """Yield the URL of a Redis that holds nothing: the demo empties it, and leaves it empty."""
    if url is None:
        with _private() as server:
            yield server.url
        return
    client = Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)
    try:
        keys = sum(int(base["keys"]) for base in _keyspace(client))
    except (RedisError, ValueError) as error:
        raise Refused(f"cannot use the Redis of --redis-url: {error}", NO_REDIS) from error
    if keys:
        raise Refused(
            f"the Redis of --redis-url holds {keys} keys, and the demo empties all of its databases:"
            " give it an empty one, or leave the option out",
            UNSAFE,
        )
    yield url
    client.flushall()


def _private() -> Embedded:
    try:
        return Embedded()
    except NoServer as error:
        raise Refused(str(error), USAGE) from error


def _keyspace(client: Redis) -> list[dict[str, str]]:
    bases = cast("dict[str, dict[str, str]]", client.info("keyspace"))
    return list(bases.values())


def _folder(given: Path | None, seed: int) -> Path:
    """Return an empty folder for the evidence."""
    home = ROOT / ".demo"
    folder = given or home / f"{time.strftime('%Y%m%d-%H%M%S')}-seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Refused(f"{folder} is not empty: choose another folder for the evidence", USAGE)
    if given is None:
        (home / ".gitignore").write_text("*\n")
    return folder.absolute()


def _judge(console: Console, folder: Path) -> None:
    """Print the verdict and exit with it."""
    try:
        found = evidence.read(folder)
    except evidence.UnusableEvidence as error:
        raise Refused(str(error), FINDING) from error
    findings = judge(found)
    verdict(console, findings)
    good = sound(findings)
    lost = (
        sum(row.status != Status.DONE for row in found.rows) + found.settings.rows - len(found.rows)
    )
    off = sum(not finding.good for finding in findings)
    console.print(f"{lost} lost; {'nothing is off' if good else f'{off} of these are off'}")
    console.print(
        f"again: python -m examples.indexer verify {shlex.quote(str(folder))}", soft_wrap=True
    )
    sys.exit(0 if good else FINDING)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
