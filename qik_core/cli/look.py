"""`qik config`, `qik status` and `qik doctor`: commands that look and change nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from qik_core.checkup import Checkup
from qik_core.cli import base, screen
from qik_core.cli.group import FINDING
from qik_core.doctor import Finding, app_broken, no_jobs
from qik_core.errors import QikError
from qik_core.findings import COLOURS, matters
from qik_core.settings import current, written
from qik_core.store.inspection import inspect
from qik_core.store.link import Link, Links
from qik_core.store.overview import overview

_SHOWN: Final = 30
"""Processes of which `qik status` has a line."""


@click.command()
@base.app
@base.redis_url
@base.as_json
def config(app: str | None, redis_url: str | None, *, as_json: bool) -> None:
    """Print every setting, its value and where it came from."""
    settings = base.load_settings(app=app, redis_url=redis_url)
    rows = settings.told()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        screen.table(
            ("setting", "value", "origin"),
            [(name, written(row["value"]), row["origin"]) for name, row in rows.items()],
        )


@click.command()
@base.redis_url
@base.as_json
def status(redis_url: str | None, *, as_json: bool) -> None:
    """Print queues with their sizes, processes and the epoch."""
    settings = base.load_settings(redis_url=redis_url)
    seen = base.within(
        base.ANSWER, lambda: overview(Links(settings.redis)), settings.masked()["redis"]
    )
    if as_json:
        click.echo(json.dumps(seen, indent=2))
        return
    queues = [
        (name, f"{size['queued']:,}", f"{size['later']:,}", "paused" if size["paused"] else "")
        for name, size in seen["queues"].items()
    ]
    screen.table(("queue", "queued", "later", ""), queues)
    _print_aside(seen)
    screen.table(
        ("process", "working on"),
        [(each["identity"], str(each["working"])) for each in seen["processes"][:_SHOWN]],
    )
    if len(seen["processes"]) > _SHOWN:
        click.echo(f"and {len(seen['processes']) - _SHOWN:,} more: qik processes")
    sets = ("scheduled", "retries", "dead", "processed", "failed")
    click.echo(" · ".join(f"{name} {seen[name]:,}" for name in sets))
    none = "none: nothing was ever pushed here, or Redis lost it"
    click.echo(f"epoch {screen.plain(seen['epoch'] or none)}")


def _print_aside(seen: Mapping[str, Any]) -> None:
    """Print which queues have suspects, and which classes jobs that are held."""
    for name, size in seen["queues"].items():
        if size["suspects"]:
            said = f"{size['suspects']:,} suspects: two processes died while each ran"
            click.echo(f"{screen.plain(name)}: {said}")
    for name, of_class in seen["held"].items():
        jobs, size = f"{of_class['jobs']:,} jobs", f"{of_class['bytes'] / 1024:,.0f} KB"
        said = f"{jobs} held, {size}: its class, or their queue, is switched off"
        click.echo(f"{screen.plain(name)}: {said}")


@click.command()
@base.app
@base.redis_url
@base.as_json
def doctor(app: str | None, redis_url: str | None, *, as_json: bool) -> None:
    """Examine Redis, the settings and the application; say what is wrong.

    With an application, also whether it can be imported and defines jobs. Exit code 1 when something is wrong.
    """
    settings = base.load_settings(app=app, redis_url=redis_url)
    jobs, of_app = _application(settings.app)
    settings = current()  # the application may have configured itself
    facts = base.within(
        base.ANSWER, lambda: inspect(Link(settings.redis)), str(settings.masked()["redis"])
    )
    found = Checkup.of(facts, settings, jobs, of_app)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        _print_report(found.findings, found.report)
    if matters(each.severity for each in found.findings):
        sys.exit(FINDING)


def _application(app: str | None) -> tuple[list[str], list[Finding]]:
    """Import the application; return the names of its jobs, and what is wrong with it."""
    from qik_core import application, registry

    if app is None:
        return [], []
    try:
        application.load(app)
    except QikError as error:
        return [], [app_broken(str(error))]
    names = sorted(registry.names())
    return names, [] if names else [no_jobs(app)]


def _print_report(findings: Sequence[Finding], report: Mapping[str, Any]) -> None:
    for each in findings:
        what = screen.plain_lines(each.what)
        click.secho(f"{each.severity:8} {each.check:13} {what}", fg=COLOURS[each.severity])
        click.echo(f"{'':23}→ {screen.plain_lines(each.remedy)}")
    server = report["server"]
    trip = f"round trip {server['round_trip_ms']:g} ms, clock {server['clock_skew_seconds']:+g} s"
    click.echo(f"server             {screen.plain(server['kind'])} {server['version']}, {trip}")
    click.echo(
        f"processes          {len(report['processes'])} of ours, {len(report['ruby_processes'])} of Ruby's"
    )
    for chain in ("client_middleware", "server_middleware"):
        click.echo(f"{chain.replace('_', ' '):18} {' → '.join(report[chain]) or 'none'}")
    origins = ", ".join(
        f"{name} from {origin}" for name, origin in sorted(report["settings"].items())
    )
    click.echo(f"settings           {origins or 'all defaults'}")
    click.echo(f"app                {report['app'] or 'none named'}, {len(report['jobs'])} jobs")
    click.echo(f"{len(findings)} found" if findings else "nothing is wrong")
