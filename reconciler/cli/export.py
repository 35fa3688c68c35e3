"""`reconciler export` and `reconciler import`: jobs into a file, and back."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from qik_core.cli.group import UNSAFE
from qik_core.cli.screen import progress
from qik_core.errors import QikError
from qik_core.flushing import Flushing
from qik_core.settings import current
from reconciler.cli import base, people
from reconciler.cli.selecting import load_app, selection, selectors
from reconciler.parts import FileInTheWay
from reconciler.restoring import NearlyFull, Restored, audit_export, restore
from reconciler.restoring import export as export_all
from reconciler.survey import Means

_SHOWN: Final = 20
_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command()
@_file
@selectors
@click.option("--reason", default="", help="Why, for the audit.")
@base.app_option
@base.redis_url
@base.database_url
@base.as_json
def export(file: Path, *, reason: str, as_json: bool, **given: Any) -> None:
    """Write jobs that wait or are dead into FILE, and leave them where they are. Needs no application but for --tenant.

    `reconciler import FILE` puts them back, each once. FILE must not exist; only its owner can read it.
    """
    where = {name: given.pop(name) for name in ("app", "redis_url", "database_url")}
    chosen = selection(**given)
    problem = _open(where)
    if problem and chosen.tenant is not None:
        raise click.UsageError(f"whose a row is says the application: {problem}")
    who = people.who()
    means = Means.of(base.engines(current()), who)
    try:
        with progress() as say:
            header = export_all(means, chosen, file, who, reason, say)
    except FileInTheWay as error:
        click.echo(f"reconciler: {error}", err=True)
        sys.exit(UNSAFE)
    except OSError as error:
        raise click.UsageError(f"{file} cannot be written: {error.strerror}") from None
    try:
        audit_export(means.engines, chosen, header, file)
    except QikError as error:
        click.echo(f"reconciler: not in the audit: {error}", err=True)
    report = {"file": str(file), "jobs": header.jobs, "classes": dict(header.classes)}
    text = f"{header.jobs:,} jobs are in {file}{_named(header.classes)}; they are in Redis still"
    click.echo(json.dumps(report, indent=2) if as_json else text)


@click.command(name="import")
@_file
@click.option("--reason", default="", help="Why, for the audit.")
@base.redis_url
@base.database_url
@base.as_json
def import_(file: Path, *, reason: str, as_json: bool, **where: Any) -> None:
    """Put the jobs of FILE back where they were, each once: run it again, and it adds nothing. Needs no application.

    A damaged file is refused before anything is put back. A job whose key another one holds by now stays out.
    """
    base.load_settings(**where)
    base.with_redis()
    who = people.who()
    try:
        with progress() as say:
            done = restore(
                base.engines(current()), Flushing(who=who), file, who=who, reason=reason, say=say
            )
    except NearlyFull as error:
        click.echo(f"reconciler: {error}", err=True)
        sys.exit(UNSAFE)
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}") from None
    click.echo(json.dumps(done.as_json(), indent=2) if as_json else _said(done))


def _open(where: dict[str, Any]) -> str:
    settings = base.load_settings(**where)
    base.with_redis()
    return load_app(settings)


def _said(done: Restored) -> str:
    lines = [f"{done.back.total():,} of {done.header.jobs:,} jobs are back{_named(done.back)}"]
    if done.there:
        lines.append(f"{done.there:,} were put back before, or are there")
    blocked = list(done.blocked.items())
    if blocked:
        lines.append(f"{len(blocked):,} stay out, since another job has their key by now:")
        lines += [f"  {jid}: job {holder} does its work" for jid, holder in blocked[:_SHOWN]]
        lines += (
            [f"  … and {len(blocked) - _SHOWN:,} more (--json names all)"]
            if len(blocked) > _SHOWN
            else []
        )
    return "\n".join(lines)


def _named(classes: Any) -> str:
    names: Sequence[str] = [f"{count:,} {name}" for name, count in sorted(dict(classes).items())]
    return f" ({', '.join(names)})" if names else ""
