"""`reconciler shadow`: what reconcilers in shadow would have told. Looks and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

import click

from reconciler.cli import base
from reconciler.cli.base import Asked, code_of
from reconciler.definition import Definition
from reconciler.engines import HOME, Engines
from reconciler.errors import SqlUnavailable
from reconciler.registry import find
from reconciler.shadows import LAST, Shadow, shadow_of
from reconciler.units import units
from reconciler.words import span


@click.command()
@click.argument("names", metavar="[RECONCILER]...", nargs=-1)
@base.app_option
@base.database_url
@click.option(
    "--passes", "last", type=click.IntRange(1), default=LAST, help="Look at so many passes."
)
@base.as_json
def shadow(
    names: Sequence[str], app: str | None, database_url: str | None, last: int, *, as_json: bool
) -> NoReturn:
    """Say what each reconciler with shadow=True (or each RECONCILER) would have told in its last passes.

    And how many of its rows edges had told. When that is what you expect, take shadow=True off.
    """
    settings = base.load_settings(app=app, database_url=database_url)
    everything = base.reconcilers(settings, "shadow --app")
    wanted = [find(name) for name in names] or [each for each in everything if each.shadow]
    engines = base.engines(settings)
    asked: Asked[list[Shadow]] = Asked(partial(_read, engines, wanted, last))
    found = asked.answer(SqlUnavailable, f"database {HOME!r}") or []
    if as_json:
        errors = [str(asked.error)] if asked.error else []
        shown = [each.as_json() for each in found]
        click.echo(json.dumps({"reconcilers": shown, "errors": errors}, indent=2))
    else:
        for each in found:
            click.echo(_line(each))
        if not wanted:
            click.echo("no reconciler is in shadow")
        if asked.error is not None:
            click.echo(f"reconciler: {asked.error}", err=True)
    base.leave(0 if asked.error is None else code_of(asked.error))


def _read(engines: Engines, wanted: Sequence[Definition], last: int) -> list[Shadow]:
    return [shadow_of(engines.home(), each, last) for each in units(wanted, engines)]


def _line(found: Shadow) -> str:
    if not found.passes:
        return f"{found.unit}: no pass has read all its rows yet"
    share = "" if found.by_edges is None else f", edges had told {found.by_edges:.1%}"
    cut = f", {found.unfinished:,} more were cut short" if found.unfinished else ""
    return (
        f"{found.unit}: the last pass would have told {found.would_tell:,} of {found.pending:,} rows{share}; "
        f"in {found.passes:,} passes since {span(found.since)} ago at most {found.most:,}, none in {found.clean:,}{cut}"
    )
