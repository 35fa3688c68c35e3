"""`reconciler status`: looks and changes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from qik_core.cli import screen
from qik_core.errors import StoreUnavailable
from qik_core.passes import Passes
from qik_core.switches import Snapshot
from reconciler.cli import base
from reconciler.cli.base import Asked, code_of
from reconciler.errors import SqlUnavailable
from reconciler.status import Standing, counted, remarks, time_to_whole, whole
from reconciler.switches import listing
from reconciler.switches.listing import Listed
from reconciler.switches.rules import told
from reconciler.switches.table import Shelf, Table
from reconciler.words import span


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
        for remark in [] if each.last is None else remarks(each.last):
            click.echo(screen.plain(f"{each.unit}: {remark}", screen.PAPER))
    if rows:
        click.echo(whole(rows, answers=epoch is not None))
    if epoch is not None:
        click.echo(f"epoch {screen.plain(epoch.loss)}")
    for error in errors:
        click.echo(f"reconciler: {error}", err=True)


def _table(rows: Sequence[Standing]) -> None:
    heads = (
        "reconciler", "job", "holder", "last pass", "ago", "scanned", "untold for", "held back", "whole in", "codes",
    )  # fmt: skip
    screen.table(heads, [_cells(each) for each in rows])


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
        "-" if last is None or last.untold_for is None else span(last.untold_for),
        "-" if last is None or not last.held else f"{last.held:,}",
        "-" if last is None or last.whole is None else span(last.whole),
        "-" if last is None else counted(last.codes) or "-",
    )
