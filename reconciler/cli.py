"""The `reconciler` command. Commands that need no application do not import it, and each loads only what it uses.

Exit codes: 0 fine · 1 a finding · 2 usage · 3 refused as unsafe · 4 Redis cannot be reached · 5 SQL cannot be reached.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NoReturn, TypeVar

import click

from qik_core.errors import QikError, SettingsError, StoreError, StoreUnavailable
from qik_core.passes import Passes
from qik_core.settings import Settings, current, load, use
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import NotMigrated, SqlUnavailable
from reconciler.report import Report
from reconciler.status import Standing

T = TypeVar("T")

FINDING: Final = 1
USAGE: Final = 2
NO_REDIS: Final = 4
NO_SQL: Final = 5
ANSWER: Final = 2.3
"""Seconds for what a command asks; with the start of Python it answers within 3."""
_RESTARTS: Final = 10

_APP_MISSING: Final = """\
no application is named: the module that defines your reconcilers. Do one of these:
  reconciler {command} shop.jobs
  export QIK_APP=shop.jobs
  app = "shop.jobs"                    in qik.toml, or under [tool.qik] in pyproject.toml"""
_REDIS_MISSING: Final = """\
no Redis is named. Do one of these:
  export REDIS_URL=redis://host:6379/0
  redis = "redis://host:6379/0"        in qik.toml, or under [tool.qik] in pyproject.toml"""


class Commands(click.Group):
    """The group of commands: turns this package's errors into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except QikError as error:
            click.echo(f"reconciler: {error}", err=True)
            ctx.exit(code_of(error))


def code_of(error: Exception | None) -> int:
    """Return the exit code that an error stands for."""
    if isinstance(error, StoreError):
        return NO_REDIS
    if isinstance(error, SqlUnavailable):
        return NO_SQL
    return FINDING if isinstance(error, NotMigrated) else USAGE


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Tell again what SQL says is pending."""


_app = click.argument("app", required=False)
_app_option = click.option("--app", metavar="MODULE", help="The module that defines reconcilers.")
_database_url = click.option("--database-url", metavar="URL", help="Where our own tables live.")
_redis_url = click.option("--redis-url", metavar="URL", help="Which Redis.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@main.command()
@_database_url
@click.option(
    "--sql",
    "dialect",
    metavar="DIALECT",
    help="Print the SQL for postgresql, mariadb or sqlite instead.",
)
@_as_json
def upgrade(database_url: str | None, dialect: str | None, *, as_json: bool) -> None:
    """Make our tables, or move them on to this release. May run in several processes at once."""
    from reconciler import migrate
    from reconciler.sql import where

    if dialect is not None:
        migrate.sql(dialect)
        return
    home = _engines(_load(database_url=database_url)).home()
    before = migrate.current(home)
    migrate.upgrade(home)
    after = migrate.current(home)
    if as_json:
        click.echo(json.dumps({"database": where(home), "from": before, "to": after}))
    elif before == after:
        click.echo(f"{where(home)} is up to date ({after})")
    else:
        click.echo(f"{where(home)}: {before or 'no tables'} → {after}")


@main.command()
@_app
@_database_url
@_redis_url
@click.option(
    "--lease", type=click.FloatRange(1.0), metavar="SECONDS", help="How long a lease lasts (30)."
)
def run(
    app: str | None, database_url: str | None, redis_url: str | None, lease: float | None
) -> NoReturn:
    """Run the reconcilers of APP until TERM. Several such processes share the reconcilers out."""
    settings = _load(app=app, database_url=database_url, redis_url=redis_url)
    _set_up_logs(settings.log_level)
    definitions = _reconcilers(settings, "run")
    from reconciler.manager import Manager

    settings = _with_redis()
    manager = Manager(definitions, _engines(settings), _seam(), lease=lease or settings.lease)
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: manager.stop())
    well = manager.run()
    sys.stderr.flush()
    os._exit(0 if well else FINDING)  # a thread that hangs in a driver must not hold up the end


@main.command(name="pass")
@click.argument("name")
@_app_option
@_database_url
@_redis_url
@_as_json
def pass_(
    name: str, app: str | None, database_url: str | None, redis_url: str | None, *, as_json: bool
) -> NoReturn:
    """Run one pass of the reconciler NAME now, whoever holds its lease: the locks make that harmless."""
    settings = _load(app=app, database_url=database_url, redis_url=redis_url)
    _reconcilers(settings, "pass NAME --app")
    from reconciler.definition import find
    from reconciler.report import Outcome

    found = find(name)
    settings = _with_redis()
    report = _one_pass(found, _engines(settings))
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        counts = " · ".join(f"{code} {count:,}" for code, count in sorted(report.codes.items()))
        click.echo(
            f"{name}: {report.outcome} in {report.seconds:.2f} s · scanned {report.scanned:,}"
            + (counts and f" · {counts}")
        )
        if report.reason:
            click.echo(report.reason, err=report.outcome is Outcome.FAILED)
    if report.outcome in (Outcome.COMPLETED, Outcome.BUDGET):
        sys.exit(0)
    known = isinstance(report.error, (StoreError, SqlUnavailable))
    sys.exit(code_of(report.error) if known else FINDING)


@main.command()
@_database_url
@_redis_url
@_as_json
def status(database_url: str | None, redis_url: str | None, *, as_json: bool) -> NoReturn:
    """Show every reconciler: who runs it, how its last pass ended. Needs no application code."""
    from reconciler.status import standings

    settings = _load(database_url=database_url, redis_url=redis_url)
    sql: Asked[Any] = Asked(lambda: standings(_engines(settings).home()))
    redis: Asked[Any] = Asked(lambda: _seam().look())
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


# --- what the commands stand on ------------------------------------------------------------------


class Asked(Generic[T]):
    """A question that is asked on a thread of its own, and what came of it within ANSWER seconds."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self.error: Exception | None = None
        self._answer: T | None = None
        self._deadline = time.monotonic() + ANSWER
        self._thread = threading.Thread(target=self._run, args=(ask,), daemon=True)
        self._thread.start()

    def answer(self, late: Callable[[str], Exception], whom: str) -> T | None:
        """Return the answer; None where `error` says why there is none."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._thread.is_alive():
            self.error = late(f"no answer from {whom} within {ANSWER:g} s")
        return self._answer if self.error is None else None

    def _run(self, ask: Callable[[], T]) -> None:
        try:
            self._answer = ask()
        except Exception as error:  # noqa: BLE001 - shown beside what the others answered
            self.error = error


def _load(
    *, redis_url: str | None = None, database_url: str | None = None, **flags: Any
) -> Settings:
    """Return the settings of this command, its own flags first; they hold for the application too."""
    databases = None if database_url is None else {"default": database_url}
    settings = load({"redis": redis_url, "databases": databases, **flags})
    use(settings)
    return settings


def _with_redis() -> Settings:
    """Return the settings as the application may have changed them; a Redis must be named."""
    settings = current()
    if settings.origin("redis") == "default":
        raise SettingsError(_REDIS_MISSING)
    return settings


def _reconcilers(settings: Settings, command: str) -> Sequence[Definition]:
    from reconciler.application import reconcilers

    if settings.app is None:
        raise click.UsageError(_APP_MISSING.format(command=command))
    return reconcilers(settings.app)


def _engines(settings: Settings) -> Engines:
    return Engines(settings.databases)


def _seam() -> Passes:
    return Passes()


def _one_pass(definition: Definition, engines: Engines) -> Report:
    """Run one pass; begin again when Redis loses its data on the way."""
    from reconciler.lease import identity
    from reconciler.ledger import Ledger
    from reconciler.passes import Pass, Tools
    from reconciler.report import Outcome
    from reconciler.watch import Watch

    seam = _seam()
    tools = Tools(seam, Watch(seam), engines, Ledger(engines.home(), identity()))
    report = Pass(definition, tools, 0, lambda: None).run()
    for _ in range(_RESTARTS):
        if report.outcome is not Outcome.RESTARTED:
            break
        report = Pass(definition, tools, 0, lambda: None).run()
    return report


def _set_up_logs(level: str) -> None:
    from qik_core import logs

    logs.set_up(level.upper())
    logging.getLogger("apscheduler").setLevel(logging.WARNING)


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
            click.echo(f"{each.reconciler}: {each.last.outcome}: {each.last.reason}")
    if epoch is not None:
        click.echo(f"epoch {epoch.loss}")
    for error in errors:
        click.echo(f"reconciler: {error}", err=True)


def _cells(each: Standing) -> tuple[str, ...]:
    last = each.last
    outcome = "-" if last is None else last.outcome
    return (
        each.reconciler,
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


if __name__ == "__main__":
    main()
