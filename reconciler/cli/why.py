"""`reconciler why`: why a row has not run. Looks and changes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from qik_core.cli.group import FINDING
from qik_core.errors import StoreUnavailable
from qik_core.passes import Passes
from reconciler.asking import Asked, started
from reconciler.cli import base
from reconciler.cli.base import code_of
from reconciler.engines import Engines
from reconciler.inquiry import Ended, Means, inquire
from reconciler.lookup import Meant, NoSuchJob, key_of, row_of_jid
from reconciler.registry import find
from reconciler.why import Answer
from reconciler.why import why as decide
from reconciler.words import moment, span

_WHOLE: Final = 2.5
"""Seconds after the start of its process within which this command waits for answers: so it answers within 3."""
_LEAST: Final = 0.8
"""Seconds for each round of questions, however long it took to import the application, or to find the job."""


@click.command()
@click.argument("name", metavar="[RECONCILER]", required=False)
@click.argument("key", metavar="[KEY]...", nargs=-1)
@click.option("--jid", metavar="JID", help="The row of this job, instead of RECONCILER and KEY.")
@click.option("--shard", metavar="SHARD", help="In which shard the row is.")
@base.app_option
@base.database_url
@base.redis_url
@base.as_json
def why(
    name: str | None,
    key: Sequence[str],
    jid: str | None,
    shard: str | None,
    *,
    as_json: bool,
    **given: str | None,
) -> NoReturn:
    """Say why the row KEY of RECONCILER has not run: the first true cause, what else is found, when it is tried next.

    KEY is a value, or `column=value` for each column of the key. Nothing is written anywhere.
    """
    settings = base.load_settings(
        app=given["app"], database_url=given["database_url"], redis_url=given["redis_url"]
    )
    base.reconcilers(settings, "why RECONCILER KEY --app")
    engines, seam = base.engines(base.with_redis()), base.seam()
    if jid is not None and key:
        raise click.UsageError("give RECONCILER and KEY, or --jid JID, and not both")
    meant = _meant(name, key, shard, engines) if jid is None else _of_job(jid, seam, engines)
    means = Means(engines, seam)
    answer = decide(inquire(meant.definition, meant.key, means, patience=_left()))
    _print(answer, as_json=as_json)
    base.leave(max(map(code_of, answer.known.errors), default=0))


def _meant(name: str | None, key: Sequence[str], shard: str | None, engines: Engines) -> Meant:
    if name is None or not key:
        raise click.UsageError("name a reconciler and a key: reconciler why OpenInvoices 7")
    definition = find(name)
    return Meant(base.in_shard(definition, shard, engines), key_of(definition, key))


def _of_job(jid: str, seam: Passes, engines: Engines) -> Meant:
    """Return the row of a job; end where there is none, or nobody says so in time."""
    left = _left(_LEAST)
    asked: Asked[Meant] = Asked(
        lambda: row_of_jid(jid, seam, engines.home(), patience=left / 2), time.monotonic() + left
    )
    meant = asked.answer(StoreUnavailable, "Redis or SQL")
    if meant is None:
        click.echo(f"reconciler: {asked.error}", err=True)
        base.leave(FINDING if isinstance(asked.error, NoSuchJob) else code_of(asked.error))
    return meant


def _left(kept: float = 0.0) -> float:
    """Return the seconds that a round of questions may take; `kept` are those of the round behind it."""
    return max(_LEAST, started() + _WHOLE - kept - time.monotonic())


def _print(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer.as_json(), indent=2))
        return
    definition = answer.known.definition
    click.secho(
        f"{definition.unit} {answer.known.name} ({definition.facts.name}): {answer.cause.reason}",
        bold=True,
    )
    click.echo(f"  {answer.cause.text}")
    for each in answer.found[1:]:
        click.echo(f"  also    {each.reason}: {each.text}")
    if answer.next_at is not None:
        left = answer.next_at - time.time()
        when = f", in {span(left)}" if left > 0 else ""
        click.echo(f"  next    {moment(answer.next_at)}{when}")
    home = answer.known.home
    for ended in () if home is None else home.passes:
        click.echo(f"  pass    {_told(ended, home.now if home else ended.ended_at)}")
    for error in answer.known.errors:
        click.echo(f"reconciler: {error}", err=True)


def _told(ended: Ended, now: float) -> str:
    counts = " ".join(f"{code}:{count:,}" for code, count in sorted(ended.codes.items())) or "-"
    reason = f": {ended.reason}" if ended.reason else ""
    ago = span(max(0.0, now - ended.ended_at))
    return f"{ended.outcome} {ago} ago, {ended.scanned:,} rows, {counts}{reason}"
