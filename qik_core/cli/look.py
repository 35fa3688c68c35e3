"""`qik config` and `qik status`: commands that look and change nothing."""

from __future__ import annotations

import json
from typing import Any

import click

from qik_core.cli import base


@click.command()
@base.app
@base.redis_url
@base.as_json
def config(app: str | None, redis_url: str | None, *, as_json: bool) -> None:
    """Print every setting, its value and where it came from."""
    settings = base.load_settings(app=app, redis_url=redis_url)
    values = settings.masked()
    databases = values.pop("databases")
    values.update({f"databases.{name}": value for name, value in databases.items()})
    rows = {
        name: {"value": _plain(value), "origin": settings.origin(name)}
        for name, value in sorted(values.items())
    }
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        base.table(
            ("setting", "value", "origin"),
            [(name, _text(row["value"]), row["origin"]) for name, row in rows.items()],
        )


@click.command()
@base.redis_url
@base.as_json
def status(redis_url: str | None, *, as_json: bool) -> None:
    """Print queues with their sizes, processes and the epoch."""
    from qik_core.store.link import Link
    from qik_core.store.overview import overview

    settings = base.load_settings(redis_url=redis_url)
    seen = base.within(
        base.ANSWER, lambda: overview(Link(settings.redis)), settings.masked()["redis"]
    )
    if as_json:
        click.echo(json.dumps(seen, indent=2))
        return
    queues = [
        (name, f"{size['queued']:,}", f"{size['later']:,}") for name, size in seen["queues"].items()
    ]
    base.table(("queue", "queued", "later"), queues)
    base.table(
        ("process", "working on"),
        [(each["identity"], str(each["working"])) for each in seen["processes"]],
    )
    sets = ("scheduled", "retries", "dead", "processed", "failed")
    click.echo(" · ".join(f"{name} {seen[name]:,}" for name in sets))
    click.echo(f"epoch {seen['epoch'] or 'none: nothing was ever pushed here, or Redis lost it'}")


def _plain(value: Any) -> Any:
    """Return a setting as JSON has it."""
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _text(value: Any) -> str:
    """Return a setting as a person writes it: queues as `critical,5 default,1`."""
    if not isinstance(value, (list, tuple)):
        return "-" if value is None else str(value)
    return (
        " ".join(
            _text(each) if isinstance(each, str) else ",".join(map(str, each)) for each in value
        )
        or "-"
    )
