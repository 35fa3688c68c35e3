"""`python -m benchmarks [--only CASE] [--json FILE] [--rounds N]`; `peers`, `compare` and `table` beside it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from benchmarks import compare, running, show, sidekiq
from benchmarks import costs as pricing
from benchmarks.cases import CASES
from benchmarks.gathering import COMPARED, gathered
from benchmarks.names import CaseName
from benchmarks.report import of_text
from benchmarks.running import Order

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS: Final = (
    click.option(
        "--only",
        "names",
        multiple=True,
        type=click.Choice([str(name) for name in CaseName]),
        help="Only this case.",
    ),
    click.option("--rounds", default=3, show_default=True, type=click.IntRange(1)),
    click.option(
        "--scale",
        default=1.0,
        show_default=True,
        type=click.FloatRange(0.0001, 100),
        help="Factor on the number of jobs.",
    ),
    click.option(
        "--json", "file", type=click.Path(path_type=Path), help="Write one JSON object per result."
    ),
)


def _options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@_options
@click.option(
    "--database-url",
    default="",
    help="An empty database for the rows of passes. SQLite by default.",
)
@click.option("--postgres", is_flag=True, help="Rows of passes in a private PostgreSQL.")
@click.option("--system", "systems", multiple=True, help="Only this system, as in qik or limit.")
@click.pass_context
def main(
    context: click.Context,
    /,
    *,
    names: Sequence[str],
    file: Path | None,
    systems: Sequence[str],
    **how: Any,
) -> None:
    """Measure ours beside the raw server and Sidekiq, interleaved, on one private server."""
    if context.invoked_subcommand is not None:
        return
    console, peer = running.console(), sidekiq.versions()
    rows = running.postgres() if how["postgres"] else nullcontext(how["database_url"])
    with rows as url, running.private(url) as bench:
        told = {f"peer {name}": text for name, text in (peer or {sidekiq.NAME: "absent"}).items()}
        told["rows"] = url.partition(":")[0] or "sqlite"
        versions = running.versions_of(bench.redis, told)
        running.introduce(console, versions)
        if peer is None:
            console.print("sidekiq: absent (apt-get install ruby-sidekiq)")
        order = Order(
            cases=[case for case in CASES if not names or case.name in names],
            peers=[sidekiq.Sidekiq()] if peer else [],
            rounds=how["rounds"],
            scale=how["scale"],
            only=frozenset(systems),
        )
        lines, failures = running.run(console, bench, order, versions)
    running.finish(lines, failures, file)


@main.command()
@_options
@click.option("--system", "systems", multiple=True, help="Only this peer.")
def peers(*, names: Sequence[str], file: Path | None, systems: Sequence[str], **how: Any) -> None:
    """Measure ours beside Sidekiq and the queues of Python, each installed into an environment of its own."""
    console = running.console()
    with running.private("") as bench, gathered(console, bench, systems) as found:
        versions = running.versions_of(bench.redis, found.versions)
        running.introduce(console, versions)
        order = Order(
            cases=[case for case in CASES if case.name in (names or COMPARED)],
            peers=found.systems,
            rounds=how["rounds"],
            scale=how["scale"],
        )
        lines, failures = running.run(console, bench, order, versions)
        console.print(show.chart(lines))
        found.tell(console)
    running.finish(lines, [*failures, *found.missing], file)


@main.command(name="compare")
@click.argument("revision")
@_options
def compare_(revision: str, *, names: Sequence[str], file: Path | None, **how: Any) -> None:
    """Measure ours as of a REVISION and as it is here, in turn; print the ratios with their spread."""
    console, found = running.console(), []
    with compare.checkout(revision) as base:
        for pairs in compare.compare(base, names or list(CaseName), how["rounds"], how["scale"]):
            console.print(compare.table(pairs, revision))
            found += pairs
    if file is not None:
        file.write_text("".join(f"{json.dumps(dataclasses.asdict(pair))}\n" for pair in found))
    sys.exit(1 if any(pair.void for pair in found) else 0)


_into = click.option(
    "--into",
    "page",
    type=click.Path(path_type=Path, exists=True),
    help="Put it into this page, between its marks.",
)


def _print(text: str, mark: str, page: Path | None) -> None:
    if page is None:
        click.echo(text, nl=not text.endswith("\n"))
    else:
        page.write_text(show.put(page.read_text(), mark, text))


@main.command()
@_into
@click.option("--jobs", default=100_000, show_default=True, type=click.IntRange(1000))
def costs(jobs: int, page: Path | None) -> None:
    """Print what a job costs in each step, as a table of Markdown: CPU time of Python and of Redis, scripts, commands."""
    with running.private("") as bench:
        rows = [pricing.HEAD, *(cost.row() for cost in pricing.costs(bench, jobs))]
    _print("\n".join(rows), "costs", page)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--chart", is_flag=True, help="Bars instead.")
@_into
def table(files: Sequence[Path], page: Path | None, *, chart: bool) -> None:
    """Print the results of each file as a table of Markdown."""
    runs = [of_text(file.read_text()) for file in files]
    shown = show.chart if chart else show.markdown
    parts = [f"{shown(lines)}{show.missing(missing)}" for lines, missing in runs]
    _print("\n".join(parts), "figures", page)


if __name__ == "__main__":
    main()
