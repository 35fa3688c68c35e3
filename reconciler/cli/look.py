"""`reconciler status`: looks and changes nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from qik_core.errors import StoreUnavailable
from reconciler.cli import base
from reconciler.cli.base import Asked, code_of
from reconciler.errors import SqlUnavailable
from reconciler.status import Standing


@click.command()
@base.database_url
@base.redis_url
@base.as_json
def status(database_url: str | None, redis_url: str | None, *, as_json: bool) -> NoReturn:
    """Show every reconciler: who runs it, how its last pass ended. Needs no application code."""
    from reconciler.status import standings

    settings = base.load_settings(database_url=database_url, redis_url=redis_url)
    sql: Asked[Any] = Asked(lambda: standings(base.engines(settings).home()))
    redis: Asked[Any] = Asked(lambda: base.seam().look())
    rows, epoch = sql.answer(SqlUnavailable, "SQL"), redis.answer(StoreUnavailable, "Redis")
    if as_json:
        shown: dict[str, Any] = {
            "reconcilers": None if rows is None else [each.as_json() for each in rows],
            "sql": str(sql.error) if sql.error else "ok",
            "redis": str(redis.error) if redis.error else "ok",
            "epoch": None if epoch is None else epoch.loss,
        }
        click.echo(json.dumps(shown, indent=2))
    else:
        _show(rows, epoch, [each for each in (sql.error, redis.error) if each])
    code = next((code_of(each) for each in (sql.error, redis.error) if each), 0)
    sys.stdout.flush()
    os._exit(code)  # whoever did not answer in time must not hold up the end


def _show(rows: Sequence[Standing] | None, epoch: Any, errors: Sequence[Exception]) -> None:
    from rich.console import Console
    from rich.table import Table

    if rows:
        table = Table(
            *("reconciler", "job", "holder", "term", "last pass", "ago", "scanned", "codes"),
            box=None,
            header_style="bold",
            pad_edge=False,
        )
        for each in rows:
            table.add_row(*_cells(each))
        Console(soft_wrap=not sys.stdout.isatty()).print(table)
    elif rows is not None:
        click.echo("no reconciler has ever run here: start `reconciler run`")
    for each in rows or ():
        if each.last is not None and each.last.reason:
            click.echo(f"{each.unit}: {each.last.outcome}: {each.last.reason}")
    if epoch is not None:
        click.echo(f"epoch {epoch.loss}")
    for error in errors:
        click.echo(f"reconciler: {error}", err=True)


def _cells(each: Standing) -> tuple[str, ...]:
    last = each.last
    outcome = "-" if last is None else last.outcome
    return (
        each.unit,
        each.job or "-",
        each.holder or "nobody",
        str(each.term),
        f"running, {outcome} before" if each.running_for is not None else outcome,
        "-" if last is None else _ago(last.age),
        "-" if last is None else f"{last.scanned:,}",
        "-"
        if last is None
        else " ".join(f"{code}:{count:,}" for code, count in sorted(last.codes.items())) or "-",
    )


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
