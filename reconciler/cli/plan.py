"""`reconciler plan`: what passes would do. Looks and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from qik_core.cli.group import FINDING
from qik_core.errors import StoreUnavailable
from reconciler.cli import base
from reconciler.cli.base import Asked, code_of
from reconciler.engines import HOME
from reconciler.errors import SqlUnavailable
from reconciler.explain import Explained
from reconciler.plan import LIMIT, ROWS, Means, Plan, lease_of
from reconciler.plan import plan as make
from reconciler.quarantine import RowStates
from reconciler.registry import find
from reconciler.status import Standing, standings
from reconciler.units import units

Lease = dict[str, Any] | None


@click.command()
@click.argument("names", metavar="[RECONCILER]...", nargs=-1)
@base.app_option
@base.database_url
@base.redis_url
@click.option("--limit", type=click.IntRange(1), default=LIMIT, help="Count so many rows at most.")
@click.option(
    "--rows", type=click.IntRange(0), default=ROWS, help="Show so many of the first rows."
)
@click.option("--shard", metavar="SHARD", help="Of this shard alone.")
@base.as_json
def plan(
    names: Sequence[str], app: str | None, shard: str | None, *, as_json: bool, **given: Any
) -> NoReturn:
    """Say what a pass of each RECONCILER (all by default) would do: SQL, its plan, how many rows, which are told.

    Nothing is written anywhere. Exit code 1 when a big table would be read whole.
    """
    settings = base.load_settings(
        app=app, database_url=given["database_url"], redis_url=given["redis_url"]
    )
    everything = base.reconcilers(settings, "plan NAME --app")
    named = [find(name) for name in names] or list(everything)
    settings = base.with_redis()
    engines = base.engines(settings)
    wanted = [each for each in units(named, engines) if shard in (None, each.shard)]
    if not wanted:
        raise click.UsageError(
            f"none of these has a shard {shard!r}: {', '.join(each.name for each in named)}"
        )
    redis: Asked[Any] = Asked(lambda: base.seam().glance([]) and None)
    home: Asked[list[Standing]] = Asked(lambda: standings(engines.home()))
    gone = base.reach(engines, wanted)
    redis.answer(StoreUnavailable, "Redis")
    stood = home.answer(SqlUnavailable, f"database {HOME!r}")
    means = Means(
        engines,
        None if redis.error else base.seam(),
        given["limit"],
        given["rows"],
        gone,
        None if home.error else RowStates(engines.home(), base.seam(), settings.release or ""),
    )
    plans = [make(each, means) for each in wanted]
    leases = {each.unit: lease_of(each.unit, stood) for each in plans}
    _print(plans, leases, [each for each in (redis.error, home.error) if each], as_json=as_json)
    base.leave(_code(plans, [home.error, redis.error]))


def _code(plans: Sequence[Plan], others: Sequence[Exception | None]) -> int:
    errors = [
        *(error for each in plans for error in each.errors),
        *(each for each in others if each),
    ]
    codes = [code_of(each) for each in errors]
    if codes:
        return max(codes)
    return FINDING if any(each.findings for each in plans) else 0


def _print(
    plans: Sequence[Plan],
    leases: dict[str, Lease],
    errors: Sequence[Exception],
    *,
    as_json: bool,
) -> None:
    if as_json:
        shown = [{**each.as_json(), "lease": leases[each.unit]} for each in plans]
        click.echo(json.dumps({"plans": shown, "errors": [str(each) for each in errors]}, indent=2))
        return
    for each in plans:
        _show(each, leases[each.unit])
    for error in errors:
        click.echo(f"reconciler: {error}", err=True)


def _show(plan: Plan, lease: Lease) -> None:
    click.secho(f"{plan.unit}: {plan.job} on {plan.queue}, rows of {plan.database}", bold=True)
    waits = f"every {plan.every:g} s, jitter {plan.jitter:g} s, min_age {plan.min_age:g} s"
    _line("when", f"{waits}; lease {_holder(lease)}")
    _line("pending", _counted(plan))
    if plan.new is not None:
        _line("told", _would_tell(plan))
    for row in plan.rows:
        told = {True: "told", False: "not told", None: "told or not: unknown"}[row.told]
        due = f", would be due in {row.delay:.1f} s" if row.delay and not row.told else ""
        why = f", {row.left_out}" if row.left_out else ""
        _line("row", f"{', '.join(map(str, row.key))}: {told}{why or due}")
    _statement("page", plan.page, "")
    _statement("check", plan.check, plan.check_sql)
    if plan.check_sql and plan.check is None and plan.pending is not None and not plan.pending.rows:
        _line("", "→ not planned: it looks at one row by its key, and no row is pending")
    for finding in plan.findings:
        click.secho(f"  {'finding':8} {finding}", fg="yellow")
    for error in plan.errors:
        click.echo(f"reconciler: {plan.unit}: {error}", err=True)


def _line(head: str, text: str) -> None:
    click.echo(f"  {head:8} {text}")


def _statement(head: str, explained: Explained | None, sql: str) -> None:
    text = sql if explained is None else explained.sql
    for at, line in enumerate(text.splitlines()):
        _line("" if at else head, line)
    for line in explained.plan if explained else ():
        _line("", f"→ {line}")


def _counted(plan: Plan) -> str:
    if plan.pending is None:
        return "unknown"
    told = "told or not: unknown" if plan.told is None else f"{plan.told:,} of them told"
    parts = [f"{plan.pending} rows, {told}"]
    if plan.young is not None and plan.young.rows:
        parts.append(f"{plan.young} more too young")
    if plan.ahead is not None and plan.ahead.rows:
        parts.append(f"{plan.ahead} more due too far ahead")
    parts += [f"{count:,} {why.replace('_', ' ')}" for why, count in sorted(plan.left_out.items())]
    if plan.tenants is not None:
        parts.append(f"of {plan.tenants:,} tenants")
    if plan.invalid:
        parts.append(f"{plan.invalid:,} with arguments that cannot travel")
    return ", ".join(parts)


def _would_tell(plan: Plan) -> str:
    if plan.shadow:
        return f"none: it is in shadow, and would count {plan.new:,}"
    text = f"a pass would tell {plan.new:,}"
    if plan.room is not None and plan.new is not None and plan.room < plan.new:
        text += f", and there is room for {plan.room:,}: {plan.gate}"
    return text


def _holder(lease: Lease) -> str:
    if lease is None:
        return "unknown"
    if lease["holder"] is None:
        return "held by nobody"
    return f"held by {lease['holder']}, term {lease['term']}, {lease['expires_in']:g} s left"
