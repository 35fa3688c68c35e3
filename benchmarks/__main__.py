"""`python -m benchmarks [--only CASE] [--json FILE] [--rounds N]`."""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

import click
from redis import Redis
from rich.console import Console

from benchmarks import sidekiq
from benchmarks.bench import Bench, MeasurementFailed
from benchmarks.cases import Case, cases
from benchmarks.report import Results, table
from benchmarks.workers import CONCURRENCY
from qik_core.embedded import Embedded, Kind, NoServer

_NAMES = [case.name for case in cases(peer=False)]


@click.command()
@click.option("--only", "names", multiple=True, type=click.Choice(_NAMES), help="Only this case.")
@click.option(
    "--json", "file", type=click.Path(path_type=Path), help="Write one JSON object per result."
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option(
    "--scale",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.001, 100),
    help="Factor on the number of jobs.",
)
@click.option(
    "--database-url",
    default="",
    help="An empty database for the rows of passes. SQLite by default.",
)
def main(
    names: Sequence[str], file: Path | None, rounds: int, scale: float, database_url: str
) -> None:
    """Measure ours beside the raw server and Sidekiq, interleaved, on one private server."""
    console = Console(highlight=False)
    peer = sidekiq.versions()
    chosen = [case for case in cases(peer=peer is not None) if not names or case.name in names]
    with _bench(database_url) as bench:
        versions = _versions(bench.redis, peer)
        _introduce(console, versions)
        results = _measure(console, bench, chosen, rounds, scale)
    summaries = results.summaries()
    console.print(table(summaries, results))
    for summary in summaries:
        for problem in summary.wrong:
            console.print(f"VOID: {summary.case} by {summary.system}: {problem}", style="red")
    if file is not None:
        file.write_text("".join(f"{summary.to_json(versions)}\n" for summary in summaries))
    sys.exit(1 if any(summary.wrong for summary in summaries) else 0)


def _measure(
    console: Console, bench: Bench, chosen: Sequence[Case], rounds: int, scale: float
) -> Results:
    """Run every system of every case in each round, in an order that turns from round to round."""
    results = Results()
    for case in chosen:
        n = max(int(case.n * scale) // 1000 * 1000, 1000)
        for round_ in range(rounds):
            names = list(case.systems)
            turn = round_ % len(names)
            for name in names[turn:] + names[:turn]:
                console.print(f"{case.name}, round {round_ + 1} of {rounds}: {name} …")
                try:
                    results.measures.append(case.systems[name](bench, n, round_))
                except MeasurementFailed as error:
                    raise click.ClickException(f"{case.name} by {name}: {error}") from error
    return results


@contextmanager
def _bench(database_url: str) -> Iterator[Bench]:
    """Yield a private server without persistence: Redis where it is installed, else what the development extra brings."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _server() as server:
        yield Bench(server.url, Path(folder), Redis.from_url(server.url), database_url)


def _server() -> Embedded:
    try:
        return Embedded(Kind.REDIS)
    except NoServer:
        return Embedded()


def _versions(redis: Redis, peer: Mapping[str, str] | None) -> dict[str, str]:
    server = cast("dict[str, object]", redis.info("server"))
    name = str(server.get("server_name", "redis"))
    return {
        "python": platform.python_version(),
        "qik": _own_version(),
        "redis-py": version("redis"),
        name: str(server.get("valkey_version") or server["redis_version"]),
        **({f"peer {key}": value for key, value in peer.items()} if peer else {}),
    }


def _own_version() -> str:
    try:
        return version("qik-core")
    except PackageNotFoundError:
        return "as in this folder, not installed"


def _introduce(console: Console, versions: Mapping[str, str]) -> None:
    console.print(", ".join(f"{name} {value}" for name, value in versions.items()), soft_wrap=True)
    console.print(
        f"one private server on a socket, no persistence; workers: 1 process, {CONCURRENCY} threads,"
        " no line per job; systems take turns within each round",
        soft_wrap=True,
    )
    if "peer sidekiq" not in versions:
        console.print("sidekiq: absent (apt-get install ruby-sidekiq)")


if __name__ == "__main__":
    main()
