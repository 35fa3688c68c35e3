"""`reconciler upgrade`, `run` and `pass`: the commands that do something."""

from __future__ import annotations

import json
import logging
import signal
import sys
from typing import Any, NoReturn

import click

from qik_core.cli.group import FINDING, log_format
from qik_core.cli.screen import progress
from qik_core.errors import StoreError
from qik_core.settings import Settings
from reconciler.cli import base
from reconciler.cli.base import code_of
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import NotMigrated, SqlUnavailable
from reconciler.report import Report


@click.command()
@base.database_url
@click.option(
    "--sql",
    "dialect",
    metavar="DIALECT",
    help="Print the SQL for postgresql, mariadb or sqlite instead.",
)
@base.as_json
def upgrade(database_url: str | None, dialect: str | None, *, as_json: bool) -> None:
    """Make our tables, or move them on to this release. May run in several processes at once."""
    from reconciler import migrate
    from reconciler.sql import where

    if dialect is not None:
        if as_json:
            raise click.UsageError("--sql prints SQL: leave --json out")
        migrate.sql(dialect)
        return
    home = base.engines(base.load_settings(database_url=database_url)).home()
    before = migrate.current(home)
    migrate.upgrade(home)
    after = migrate.current(home)
    if as_json:
        click.echo(json.dumps({"database": where(home), "from": before, "to": after}))
    elif before == after:
        click.echo(f"{where(home)} is up to date ({after})")
    else:
        click.echo(f"{where(home)}: {before or 'no tables'} → {after}")


@click.command()
@base.app
@base.database_url
@base.redis_url
@click.option(
    "--lease", type=click.FloatRange(1.0), metavar="SECONDS", help="How long a lease lasts (30)."
)
@log_format
def run(app: str | None, lease: float | None, **flags: Any) -> NoReturn:
    """Run the reconcilers of APP until TERM. Several such processes share the reconcilers out."""
    settings = base.load_settings(app=app, **flags)
    _set_up_logs(settings)
    definitions = base.reconcilers(settings, "run")
    from reconciler.manager import Manager
    from reconciler.metrics import Metrics, serve

    settings = base.with_redis()
    engines, seam = base.engines(settings), base.seam()
    metrics = Metrics(definitions, engines.home(), seam)
    manager = Manager(definitions, engines, seam, lease=lease or settings.lease, told=metrics.told)
    metrics.holder, metrics.units = manager.holder, lambda: manager.units
    manager.turned = metrics.turned
    serve(metrics, settings)
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: manager.stop())
    ended_well = manager.run()
    seam.flush_spans()
    base.leave(0 if ended_well else FINDING)


@click.command(name="pass")
@click.argument("name")
@base.app_option
@click.option("--shard", metavar="SHARD", help="Only this shard; all of them by default.")
@base.database_url
@base.redis_url
@base.as_json
def pass_(
    name: str,
    app: str | None,
    shard: str | None,
    database_url: str | None,
    redis_url: str | None,
    *,
    as_json: bool,
) -> NoReturn:
    """Run one pass of the reconciler NAME now, whoever holds its lease: the locks make that harmless."""
    settings = base.load_settings(app=app, database_url=database_url, redis_url=redis_url)
    base.reconcilers(settings, "pass NAME --app")
    from reconciler.registry import find

    found = find(name)
    engines = base.engines(base.with_redis())
    reports = [_one_pass(each, engines) for each in _parts(found, shard, engines)]
    if as_json:
        shown = [each.as_json() for each in reports]
        many = found.shards is not None and shard is None
        whole = {"reconciler": found.name, "shards": shown} if many else shown[0]
        click.echo(json.dumps(whole, indent=2))
    else:
        for each in reports:
            _say(each)
    sys.exit(max(map(_code, reports), default=0))


def _parts(found: Definition, shard: str | None, engines: Engines) -> list[Definition]:
    """Return the units that a pass by hand runs, one after the other."""
    if found.shards is None:
        if shard is not None:
            raise click.UsageError(f"{found.name} has no shards: leave --shard out")
        return [found]
    return [found.in_shard(each) for each in ([shard] if shard else engines.shards(found))]


def _say(report: Report) -> None:
    from reconciler.report import Outcome

    counts = " · ".join(f"{code} {count:,}" for code, count in sorted(report.codes.items()))
    click.echo(
        f"{report.reconciler}: {report.outcome} in {report.seconds:.2f} s · scanned {report.scanned:,}"
        + (counts and f" · {counts}")
    )
    if report.reason:
        click.echo(report.reason, err=report.outcome is Outcome.FAILED)


def _code(report: Report) -> int:
    from reconciler.report import Outcome

    if report.outcome in (Outcome.COMPLETED, Outcome.BUDGET):
        return 0
    known = isinstance(report.error, (StoreError, SqlUnavailable, NotMigrated))
    return code_of(report.error) if known else FINDING


def _one_pass(definition: Definition, engines: Engines) -> Report:
    """Run one pass, which says how far it is; begin again when Redis loses its data on the way."""
    from reconciler.lease import identity
    from reconciler.passes import Tools
    from reconciler.runner import by_hand

    tools = Tools.of(base.seam(), engines, identity())
    with progress() as say:
        return by_hand(
            definition, tools, lambda rows: say(f"rows of {definition.unit} are read", rows)
        )


def _set_up_logs(settings: Settings) -> None:
    from qik_core import logs

    logs.set_up(settings.log_level.upper(), settings.log_format)
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
