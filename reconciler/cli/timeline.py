"""`reconciler timeline`: what happened lately, in one list."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any, Final, NoReturn

import click

from qik_core.cli import screen
from reconciler.cli import base
from reconciler.cli.base import Asked, code_of
from reconciler.cli.people import span_option
from reconciler.errors import SqlUnavailable
from reconciler.timeline import MOST, Event, Timeline
from reconciler.timeline import timeline as read
from reconciler.words import span

_PAPER: Final = 100_000
"""Columns where nobody looks at a terminal: an event is one line."""


@click.command()
@click.option(
    "--since",
    metavar="TIME",
    default="2h",
    show_default=True,
    callback=span_option,
    help="How far back, as 90s, 15min, 2h, 3d.",
)
@click.option(
    "--limit", type=click.IntRange(1), default=MOST, help=f"Show so many at most ({MOST})."
)
@base.database_url
@base.as_json
def timeline(since: float, limit: int, database_url: str | None, *, as_json: bool) -> NoReturn:
    """Show what happened: switches, flushes, losses of Redis, leases, quarantines, rebuilds, releases, passes that ended badly.

    Needs neither Redis nor application code.
    """
    settings = base.load_settings(database_url=database_url)
    asked: Asked[Timeline] = Asked(lambda: read(base.engines(settings).home(), since, limit))
    found = asked.answer(SqlUnavailable, "SQL")
    if asked.error is not None or found is None:
        click.echo(f"reconciler: {asked.error}", err=True)
        base.leave(code_of(asked.error))
    if as_json:
        click.echo(json.dumps(_as_json(found), indent=2))
    else:
        _show(found, since)
    base.leave(0)


def _as_json(found: Timeline) -> dict[str, Any]:
    return {**asdict(found), "events": [each.as_json() for each in found.events]}


def _show(found: Timeline, since: float) -> None:
    if not found.events:
        click.echo(f"nothing happened in the last {span(since)}")
        return
    if found.left_out:
        left = found.left_out
        click.echo(f"{left:,} older events are left out: --limit {left + len(found.events)}")
    heads = ("when (UTC)", "what", "of", "what happened", "who")
    screen.table(heads, [_cells(each) for each in found.events], paper=_PAPER)


def _cells(event: Event) -> tuple[str, ...]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event.at))
    return when, event.what.value, event.subject, event.text, event.who or "-"
