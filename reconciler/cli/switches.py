"""`reconciler switches`: everything that is switched off, by whom, and how old what is known of it may be."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from qik_core.errors import StoreUnavailable
from reconciler.cli import base
from reconciler.cli.base import Asked, code_of
from reconciler.errors import SqlUnavailable
from reconciler.switches import listing
from reconciler.switches.listing import Listed, Published
from reconciler.switches.rules import told
from reconciler.switches.table import Shelf, Table
from reconciler.words import span


@click.command()
@base.database_url
@base.redis_url
@base.as_json
def switches(database_url: str | None, redis_url: str | None, *, as_json: bool) -> NoReturn:
    """List every switch: who said it, why, since when, until when, and what it has stopped. Needs no application code."""
    settings = base.load_settings(database_url=database_url, redis_url=redis_url)
    asked: Asked[Shelf] = Asked(lambda: Table(base.engines(settings).home()).read())
    redis: Asked[Published] = Asked(lambda: listing.published(base.seam()))
    shelf, seen = asked.answer(SqlUnavailable, "SQL"), redis.answer(StoreUnavailable, "Redis")
    errors = [each for each in (asked.error, redis.error) if each is not None]
    listed = listing.listed(shelf, seen)
    now = time.time() if shelf is None else shelf.now
    if as_json:
        click.echo(json.dumps(_listed_json(listed, shelf, seen, errors, now), indent=2))
    else:
        _show_listed(listed, shelf, seen, now)
        for error in errors:
            click.echo(f"reconciler: {error}", err=True)
    base.leave(max(map(code_of, errors), default=0))


def _show_listed(
    listed: Sequence[Listed], shelf: Shelf | None, seen: Published | None, now: float
) -> None:
    for each in listed:
        since = f" since {span(max(0.0, now - each.since))}" if each.since else ""
        count = "" if each.dropped is None else f", {each.dropped:,} dropped or refused"
        word = f"off{since}{count}" if each.on(now) else "runs, by hand"
        click.secho(f"{each.flag}: {word}", bold=True)
        for rule in each.rules:
            click.echo(f"  {told(rule)}")
        for rule in each.passed_over:
            click.echo(f"  passed over: {told(rule)}")
    if not listed and (shelf is not None or seen is not None):
        click.echo("nothing is switched off")
    if shelf is not None:
        click.echo(f"published by {shelf.publisher or 'nobody: start `reconciler run`'}")
        for name, health in sorted(shelf.health.items()):
            click.echo(f"{name}: {listing.how(health, now)}")
    if seen is not None and seen.seen:
        click.echo(
            f"{seen.newest:,} of {len(seen.seen):,} worker processes go by the newest switches"
        )


def _listed_json(
    listed: Sequence[Listed],
    shelf: Shelf | None,
    seen: Published | None,
    errors: Sequence[Exception],
    now: float,
) -> dict[str, Any]:
    providers = {} if shelf is None else shelf.health
    return {
        "switches": [each.as_json(now) for each in listed],
        "providers": {
            name: {
                "problem": each.problem,
                "known": each.known,
                "age": round(max(0.0, now - each.at), 3),
            }
            for name, each in sorted(providers.items())
        },
        "publisher": None if shelf is None else shelf.publisher or None,
        "version": None if seen is None else seen.snapshot.version or None,
        "processes": None if seen is None else dict(seen.seen),
        "errors": [str(each) for each in errors],
    }
