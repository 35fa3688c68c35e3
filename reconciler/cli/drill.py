"""`reconciler drill`: break a Redis in every way that happens, under load, and prove that nothing is lost."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from qik_core.cli.group import FINDING, UNSAFE
from qik_core.settings import load
from reconciler.cli import base
from reconciler.drill import report
from reconciler.drill.conduct import Order, conduct
from reconciler.drill.course import Show
from reconciler.drill.errors import ProcessFailed, Unsafe
from reconciler.drill.evidence import Evidence, Sample
from reconciler.drill.kinds import Kind, chosen
from reconciler.drill.page import headline
from reconciler.drill.places import Wanted
from reconciler.drill.verdict import Finding, judge, sound

ROWS: Final = 1_500
SECONDS: Final = 60.0
_EVERY: Final = 2.0
_FOLDER: Final = Path(".qik")


@dataclass(frozen=True, slots=True)
class _Given:
    """The options, as given."""

    app: str | None
    faults: str | None
    seconds: float
    folder: Path | None
    rows: int
    database_url: str | None
    redis_url: str | None
    meant: bool
    as_json: bool


@click.command()
@base.app_option
@click.option(
    "--faults", metavar="A,B", help=f"Some of: {', '.join(Kind)}. All of them by default."
)
@click.option(
    "--seconds",
    default=SECONDS,
    show_default=True,
    type=click.FloatRange(1.0),
    help="How long the load lasts at least.",
)
@click.option(
    "--report",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where report.html and report.json go.  [default: .qik/drill-…]",
)
@click.option(
    "--rows",
    default=ROWS,
    show_default=True,
    type=click.IntRange(1),
    help="Rows of the load within --seconds.",
)
@base.database_url
@base.redis_url
@click.option(
    "--i-mean-it",
    "meant",
    is_flag=True,
    help="Break the Redis of --redis-url, or work off the rows of your own database.",
)
@base.as_json
def drill(**given: object) -> NoReturn:
    """Break a Redis in every way that happens, under load, and prove that nothing is lost.

    Without --redis-url and --database-url everything is private and ends with the drill. Exit code 1: something is off.
    """
    options = _Given(**given)  # type: ignore[arg-type]
    kinds = chosen(options.faults)
    where = options.folder or _FOLDER / f"drill-{time.strftime('%Y%m%d-%H%M%S')}"
    console = Console(highlight=False, markup=False, stderr=options.as_json, soft_wrap=True)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        evidence = _conduct(options, kinds, console, where)
    except Unsafe as error:
        click.echo(f"reconciler: {error}", err=True)
        base.leave(UNSAFE)
    except ProcessFailed as error:
        click.echo(f"reconciler: {error}", err=True)
        base.leave(FINDING)
    findings = judge(evidence)
    page = report.write(where, evidence, findings)
    if options.as_json:
        click.echo(json.dumps(report.as_json(evidence, findings), indent=1))
    else:
        _print(console, evidence, findings)
        console.print(f"report: {page}")
    base.leave(0 if sound(findings) else FINDING)


def _conduct(options: _Given, kinds: Sequence[Kind], console: Console, where: Path) -> Evidence:
    """Run the drill in a folder that goes away with it; what its processes said is kept beside the report."""
    wanted = Wanted(load(), options.app, options.redis_url, options.database_url, options.meant)
    with tempfile.TemporaryDirectory(prefix="qik-drill-") as folder, _show(console) as show:
        order = Order(wanted, tuple(kinds), options.seconds, options.rows, Path(folder))
        try:
            return conduct(order, show)
        finally:
            report.keep_logs(Path(folder), where)


def _print(console: Console, evidence: Evidence, findings: Sequence[Finding]) -> None:
    for finding in findings:
        mark = Text("ok   ", style="green") if finding.good else Text("OFF  ", style="bold red")
        console.print(mark, f"{finding.what}: ", Text(finding.value), sep="")
        if finding.detail:
            console.print(f"     {finding.detail}")
    console.print(headline(evidence, findings), style="bold")


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


# --- what is shown while it runs -------------------------------------------------------------------


class _Lines:
    """Plain lines: what happens, and every two seconds how things stand."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def show(self, sample: Sample, healing: str) -> None:
        """Say how things stand, if it was not said just now."""
        if sample.at >= self._next:
            self._next = sample.at + _EVERY
            self._console.print(_line(sample, healing))

    def say(self, text: str) -> None:
        """Say what has happened."""
        self._console.print(text)


class _Live:
    """One line that changes in place; what happens scrolls above it."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, sample: Sample, healing: str) -> None:
        """Show how things stand."""
        self._live.update(Text(_line(sample, healing)))

    def say(self, text: str) -> None:
        """Say what has happened."""
        self._live.console.print(text)


@contextmanager
def _show(console: Console) -> Iterator[Show]:
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        yield _Live(live)


def _line(sample: Sample, healing: str) -> str:
    said = f"; {healing}" if healing else ""
    return (
        f"{sample.at:6.1f} s  {sample.done:,} rows done, {sample.pending:,} pending, "
        f"{sample.queued:,} jobs wait, {sample.running} run{said}"
    )
