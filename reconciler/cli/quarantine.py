"""`reconciler quarantine`: rows that passes leave out because their jobs do not end well."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import click

from qik_core.cli import screen
from qik_core.cli.group import FINDING
from qik_core.settings import current
from reconciler.cli import base
from reconciler.cli.base import Asked, code_of
from reconciler.cli.people import confirm, who
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable, UnknownReconciler
from reconciler.states import Hold, State, how
from reconciler.words import meant, said

MOST: Final = 100
_WIDTH: Final = 60

_reconciler = click.argument("name", metavar="RECONCILER")
_key = click.argument("key", metavar="[KEY]...", nargs=-1)
_shard = click.option("--shard", metavar="SHARD", help="In which shard the row is.")
_why = "Why, for the audit."


@click.group()
def quarantine() -> None:
    """Show, release and quarantine rows whose jobs do not end well.

    KEY is a value, or `column=value` for each column of the key.
    """


@quarantine.command(name="list")
@click.option("--reconciler", "name", metavar="RECONCILER", help="Of this one alone.")
@click.option("--waiting", is_flag=True, help="Those that wait for their next run, too.")
@click.option("--limit", type=click.IntRange(1), default=MOST, help="Show so many at most.")
@base.database_url
@base.as_json
def list_(
    name: str | None, *, waiting: bool, limit: int, database_url: str | None, as_json: bool
) -> NoReturn:
    """List quarantined rows: how often their jobs ended badly, and the last error. Needs no application code."""
    settings = base.load_settings(database_url=database_url)
    asked: Asked[Any] = Asked(lambda: _read(base.engines(settings), name, limit, waiting=waiting))
    found = asked.answer(SqlUnavailable, "SQL")
    if asked.error is not None:
        click.echo(f"reconciler: {asked.error}", err=True)
        base.leave(code_of(asked.error))
    states, more = found or ([], False)
    if as_json:
        rows = [_as_json(each) for each in states]
        click.echo(json.dumps({"rows": rows, "more": more}, indent=2))
    else:
        _show(states, more=more)
    base.leave(0)


def _read(
    engines: Engines, name: str | None, limit: int, *, waiting: bool
) -> tuple[list[State], bool]:
    from reconciler.memory import Memory

    memory, job = Memory(engines.home()), None if name is None else _job_of(engines, name)
    hold = None if waiting else Hold.QUARANTINED
    states: list[State] = []
    after = ("", "")
    while len(states) <= limit and (page := memory.page(job, after=after, hold=hold)):
        states += page
        after = page[-1].job, page[-1].digest
    return states[:limit], len(states) > limit


def _job_of(engines: Engines, name: str) -> str:
    """Return the job class of a reconciler that has ever run."""
    from reconciler.status import standings

    jobs = {each.reconciler: each.job for each in standings(engines.home()) if each.job}
    if name not in jobs:
        near = meant(name, jobs)
        raise UnknownReconciler(f"no reconciler called {name!r} has ever run here{near}")
    return jobs[name]


def _as_json(state: State) -> dict[str, Any]:
    return {
        "job": state.job,
        "shard": state.shard,
        "key": state.key,
        "args": json.loads(state.args) if state.args else None,
        "digest": state.digest,
        "state": state.hold.value,
        "reason": state.reason.value,
        "failures": state.failures,
        "crashes": state.crashes,
        "no_progress": state.no_progress,
        "error": state.error,
        "jid": state.jid,
        "next_at": state.next_at if state.hold is Hold.WAITING else None,
        "first_at": state.first_at,
        "last_at": state.last_at,
    }


def _show(states: Sequence[State], *, more: bool) -> None:
    if states:
        heads = ("job", "key", "state", "reason", "ended", "last", "next", "error")
        screen.table(heads, [_cells(each) for each in states])
    else:
        click.echo("no row is held back")
    if more:
        click.echo(f"there are more: --limit {2 * len(states)}")


def _cells(state: State) -> tuple[str, ...]:
    name = f"{state.job}/{state.shard}" if state.shard else state.job
    waits = state.hold is Hold.WAITING
    return (
        name,
        state.key or state.digest,
        state.hold.value,
        state.reason.value,
        f"{state.ends}×",
        _moment(state.last_at),
        _moment(state.next_at) if waits else "-",
        how(state)[:_WIDTH] or "-",
    )


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))


@quarantine.command()
@_reconciler
@_key
@click.option("--all", "every", is_flag=True, help="Every quarantined row of it.")
@_shard
@click.option("--reason", default="", help=_why)
@click.option("--yes", is_flag=True, help="Do not ask.")
@base.app_option
@base.database_url
@base.as_json
def release(
    name: str,
    key: Sequence[str],
    *,
    every: bool,
    reason: str,
    yes: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Release the row KEY of RECONCILER, or all: the next pass tells it, and it begins anew.

    Dead jobs stay where they are. Exit code 1 when nothing holds the row back.
    """
    if bool(key) == every:
        raise click.UsageError("give a KEY, or --all")
    engines, definition = _meant(name, given, "quarantine release NAME KEY --app")
    if every:
        _release_all(engines, definition, reason, yes=yes, as_json=as_json)
        return
    from reconciler import operators
    from reconciler.lookup import key_of

    by = operators.Operator(who(), reason)
    state = _or_finding(lambda: operators.release(engines, definition, key_of(definition, key), by))
    report = {"reconciler": definition.unit, "released": 1, "row": _as_json(state)}
    ended = f"{state.hold.value} since its job ended badly {state.ends} times"
    _say(report, f"{definition.unit} {state.key} is released: it was {ended}", as_json=as_json)


def _release_all(
    engines: Engines, definition: Definition, reason: str, *, yes: bool, as_json: bool
) -> None:
    from reconciler import operators
    from reconciler.memory import Memory

    memory = Memory(engines.home())
    there = operators.quarantined(memory, definition)
    if there and not yes:
        job, shards = definition.facts.name, {definition.shard}
        first = memory.page(job, shards, hold=Hold.QUARANTINED)[:10]
        click.echo(f"{definition.unit}: {there:,} rows are quarantined", err=True)
        for each in first:
            row = f"{each.key}: {each.reason.value}: {said(each.error)[:_WIDTH]}"
            click.echo(f"  {screen.plain(row)}", err=True)
        confirm(f"release all {there:,} rows of {definition.unit}", yes=yes)
    by = operators.Operator(who(), reason)
    count = operators.release_all(memory, definition, by)
    report = {"reconciler": definition.unit, "released": count}
    _say(report, f"{count:,} rows of {definition.unit} are released", as_json=as_json)


@quarantine.command()
@_reconciler
@_key
@_shard
@click.option("--reason", required=True, help=_why)
@base.app_option
@base.database_url
@base.as_json
def add(name: str, key: Sequence[str], *, reason: str, as_json: bool, **given: Any) -> None:
    """Quarantine the row KEY of RECONCILER: passes leave it out until somebody releases it.

    A job that exists for it runs all the same: `qik cancel JID` ends that.
    """
    if not key:
        raise click.UsageError("give a KEY")
    engines, definition = _meant(name, given, "quarantine add NAME KEY --app")
    from reconciler import operators
    from reconciler.lookup import key_of

    by = operators.Operator(who(), reason)
    state = _or_finding(
        lambda: operators.quarantine(engines, definition, key_of(definition, key), by)
    )
    report = {"reconciler": definition.unit, "added": 1, "row": _as_json(state)}
    _say(report, f"{definition.unit} {state.key} is quarantined", as_json=as_json)


# --- what they share ----------------------------------------------------------------------------


def _meant(name: str, given: dict[str, Any], command: str) -> tuple[Engines, Definition]:
    from reconciler.registry import find

    settings = base.load_settings(app=given["app"], database_url=given["database_url"])
    base.reconcilers(settings, command)
    engines = base.engines(current())
    return engines, base.in_shard(find(name), given["shard"], engines)


def _or_finding(act: Callable[[], State]) -> State:
    from reconciler.operators import NoSuchRow

    try:
        return act()
    except NoSuchRow as error:
        click.echo(f"reconciler: {error}", err=True)
        sys.exit(FINDING)


def _say(report: dict[str, Any], text: str, *, as_json: bool) -> None:
    click.echo(json.dumps(report, indent=2) if as_json else text)
