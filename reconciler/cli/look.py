"""`reconciler status`: looks and changes nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

import click

from qik_core.errors import StoreUnavailable
from qik_core.passes import Passes
from qik_core.switches import Snapshot
from reconciler.cli import base
from reconciler.cli.base import Asked, code_of
from reconciler.errors import SqlUnavailable
from reconciler.status import Last, Standing, doubt, time_to_whole
from reconciler.switches import listing
from reconciler.switches.listing import Listed
from reconciler.switches.rules import told
from reconciler.switches.table import Shelf, Table
from reconciler.words import span

_WIDE: Final = 250
"""Columns of what is read by programs: nothing is cut off."""


@click.command()
@base.database_url
@base.redis_url
@click.option(
    "--watch", is_flag=True, help="Show each second how many rows are untold, until Ctrl-C."
)
@base.as_json
def status(
    database_url: str | None, redis_url: str | None, *, watch: bool, as_json: bool
) -> NoReturn:
    """Show every reconciler: who runs it, how its last pass ended. Needs no application code."""
    from reconciler.status import standings

    settings = base.load_settings(database_url=database_url, redis_url=redis_url)
    if watch:
        from reconciler.cli import watching

        watching.watch(settings, as_json=as_json)
    home = base.engines(settings).home
    sql: Asked[Any] = Asked(lambda: (standings(home()), Table(home()).read()))
    redis: Asked[Any] = Asked(lambda: _of_redis(base.seam()))
    rows, shelf = sql.answer(SqlUnavailable, "SQL") or (None, None)
    epoch, published = redis.answer(StoreUnavailable, "Redis") or (None, None)
    off = _off(shelf, published)
    if as_json:
        shown: dict[str, Any] = {
            "reconcilers": None if rows is None else [each.as_json() for each in rows],
            "sql": str(sql.error) if sql.error else "ok",
            "redis": str(redis.error) if redis.error else "ok",
            "epoch": None if epoch is None else epoch.loss,
            "time_to_whole": None if epoch is None else time_to_whole(rows or ()),
            "switches": [each.as_json(time.time()) for each in off],
        }
        click.echo(json.dumps(shown, indent=2))
    else:
        _show(rows, epoch, [each for each in (sql.error, redis.error) if each])
        for each in off:
            click.secho(f"{each.flag} is switched off: {told(each.rules[0])}", bold=True)
    code = next((code_of(each) for each in (sql.error, redis.error) if each), 0)
    base.leave(code)


def _of_redis(seam: Passes) -> tuple[Any, Snapshot]:
    return seam.look(), seam.switches()


def _off(shelf: Shelf | None, published: Snapshot | None) -> list[Listed]:
    """Return what is switched off, as SQL has it, or as it is published where SQL does not answer."""
    if shelf is not None:
        return listing.on(listing.of_sql(shelf, None), shelf.now)
    return [] if published is None else listing.on(listing.of_redis(published, None), time.time())


def _show(rows: Sequence[Standing] | None, epoch: Any, errors: Sequence[Exception]) -> None:
    if rows:
        _table(rows)
    elif rows is not None:
        click.echo("no reconciler has ever run here: start `reconciler run`")
    for each in rows or ():
        for remark in [] if each.last is None else _remarks(each.last):
            click.echo(f"{each.unit}: {remark}")
    if rows:
        click.echo(_whole(rows, answers=epoch is not None))
    if epoch is not None:
        click.echo(f"epoch {epoch.loss}")
    for error in errors:
        click.echo(f"reconciler: {error}", err=True)


def _remarks(last: Last) -> Iterator[str]:
    """Yield what there is to say of a pass beside its numbers."""
    if last.reason:
        yield f"{last.outcome}: {last.reason}"
    if lost := last.details.get("drift"):
        yield f"the last pass told rows whose job was lost: {_counts(lost)}"


def _whole(rows: Sequence[Standing], *, answers: bool) -> str:
    """Return how long a loss of Redis would take to heal, or why nobody knows."""
    whole = time_to_whole(rows) if answers else None
    if whole is not None:
        return f"if Redis lost its data now, every row would be told again within {span(whole)}"
    why = doubt(rows) if answers else "Redis does not answer, so no row is told"
    return f"how soon every row would be told again if Redis lost its data is not known: {why}"


def _table(rows: Sequence[Standing]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        *("reconciler", "job", "holder", "last pass", "ago", "scanned", "untold for", "held back"),
        *("whole in", "codes"),
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for each in rows:
        table.add_row(*_cells(each))
    on_screen = sys.stdout.isatty()
    width = None if on_screen else _WIDE
    # A holder is host:pid:…, and `:100:` is a picture elsewhere.
    Console(width=width, soft_wrap=not on_screen, markup=False, emoji=False).print(table)


def _cells(each: Standing) -> tuple[str, ...]:
    last = each.last
    outcome = "-" if last is None else last.outcome
    return (
        each.unit,
        each.job or "-",
        each.holder or "nobody",
        f"running, {outcome} before" if each.running_for is not None else outcome,
        "-" if last is None else span(last.age),
        "-" if last is None else f"{last.scanned:,}",
        *_measured({} if last is None else last.details),
        "-" if last is None else _counts(last.codes) or "-",
    )


def _counts(counts: Mapping[str, int]) -> str:
    return " ".join(f"{name}:{count:,}" for name, count in sorted(counts.items()))


def _measured(details: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return since when the oldest row was untold, how many rows are held back, how long a loss of Redis would take to heal."""
    untold, whole = details.get("oldest_untold_age"), details.get("time_to_whole")
    held = details.get("waiting", 0) + details.get("quarantined", 0)
    return (
        "-" if untold is None else span(untold),
        f"{held:,}" if held else "-",
        "-" if whole is None else span(whole),
    )
