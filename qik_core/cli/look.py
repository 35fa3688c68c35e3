"""`qik config`, `qik status` and `qik doctor`: commands that look and change nothing."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import click

from qik_core import doctor as rules
from qik_core.cli import base
from qik_core.cli.group import FINDING
from qik_core.doctor import Finding, app_broken, no_jobs, unserved
from qik_core.errors import QikError
from qik_core.findings import COLOURS, matters
from qik_core.middleware import name_of
from qik_core.settings import Settings, current
from qik_core.store.inspection import Facts, inspect
from qik_core.store.link import Link, Links
from qik_core.store.overview import overview


@click.command()
@base.app
@base.redis_url
@base.as_json
def config(app: str | None, redis_url: str | None, *, as_json: bool) -> None:
    """Print every setting, its value and where it came from."""
    settings = base.load_settings(app=app, redis_url=redis_url)
    values = settings.masked()
    for table in ("databases", "capsules", "switches"):
        entries = values.pop(table)
        values.update({f"{table}.{name}": value for name, value in entries.items()})
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
    base.table(("queue", "queued", "later", ""), queues)
    for name, size in seen["queues"].items():
        if size["suspects"]:
            click.echo(f"{name}: {size['suspects']:,} suspects: two processes died while each ran")
    for name, of_class in seen["held"].items():
        jobs, size = f"{of_class['jobs']:,} jobs", f"{of_class['bytes'] / 1024:,.0f} KB"
        click.echo(f"{name}: {jobs} held, {size}: its class, or their queue, is switched off")
    base.table(
        ("process", "working on"),
        [(each["identity"], str(each["working"])) for each in seen["processes"]],
    )
    sets = ("scheduled", "retries", "dead", "processed", "failed")
    click.echo(" · ".join(f"{name} {seen[name]:,}" for name in sets))
    click.echo(f"epoch {seen['epoch'] or 'none: nothing was ever pushed here, or Redis lost it'}")


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
    findings = [*of_app, *rules.examine(facts, settings), *_unserved(facts, settings)]
    report = _report(facts, settings, jobs)
    if as_json:
        rows = [dataclasses.asdict(each) for each in findings]
        click.echo(json.dumps({"findings": rows, **report}, indent=2))
    else:
        _print_report(findings, report)
    if matters(each.severity for each in findings):
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


def _unserved(facts: Facts, settings: Settings) -> list[Finding]:
    """Return the finding of queues that the application uses and nobody serves."""
    from qik_core import application

    elsewhere = {name for each in facts.workers for name in each.queues}
    left = application.unserved(settings.served | elsewhere)
    return [unserved(facts, application.named(left))] if settings.app and left else []


def _report(facts: Facts, settings: Settings, jobs: list[str]) -> dict[str, Any]:
    """Return what was seen beside the findings, as JSON has it."""
    server = facts.server
    return {
        "server": {
            "kind": server.kind,
            "version": ".".join(map(str, server.version)),
            "maxmemory_policy": server.policy,
            "round_trip_ms": round(facts.round_trip * 1000, 3),
            "clock_skew_seconds": round(facts.skew, 3),
        },
        "processes": [each.identity for each in facts.workers if each.ours],
        "ruby_processes": [each.identity for each in facts.workers if not each.ours],
        "queues": facts.queues,
        "counts": facts.counts,
        "client_middleware": [name_of(each) for each in settings.client_middleware],
        "server_middleware": [name_of(each) for each in settings.server_middleware],
        "settings": dict(settings.origins),
        "app": settings.app,
        "jobs": jobs,
    }


def _print_report(findings: list[Finding], report: dict[str, Any]) -> None:
    for each in findings:
        click.secho(f"{each.severity:8} {each.check:13} {each.what}", fg=COLOURS[each.severity])
        click.echo(f"{'':23}→ {each.remedy}")
    server = report["server"]
    trip = f"round trip {server['round_trip_ms']:g} ms, clock {server['clock_skew_seconds']:+g} s"
    click.echo(f"server             {server['kind']} {server['version']}, {trip}")
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
