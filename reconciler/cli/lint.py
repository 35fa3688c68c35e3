"""`reconciler lint`: what jobs and reconcilers could do wrong. Looks and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from qik_core import application
from qik_core.cli.group import FINDING
from qik_core.errors import QikError
from qik_core.findings import COLOURS, matters
from qik_core.settings import current
from reconciler.cli import base
from reconciler.cli.base import Asked, code_of
from reconciler.engines import HOME
from reconciler.errors import NotMigrated, SqlUnavailable
from reconciler.lint import Answers, Finding, Seen, ask, ordered
from reconciler.lint import lint as examine
from reconciler.registry import everything
from reconciler.status import Standing, standings
from reconciler.units import units

_SHARDS = 3
"""Shards of a reconciler whose databases are asked: all have the same tables."""


@click.command()
@base.app
@base.database_url
@click.option("--offline", is_flag=True, help="Look at definitions alone; needs no database.")
@base.as_json
def lint(app: str | None, database_url: str | None, *, offline: bool, as_json: bool) -> NoReturn:
    """Find what the jobs and reconcilers of APP could do wrong, before they do.

    Exit code 1 when an error or a warning is found; a note is no finding.
    """
    settings = base.load_settings(app=app, database_url=database_url)
    application.load(base.check_app(settings, "lint"))
    stood, answers = ([], Answers([], [])) if offline else _ask()
    unserved = application.unserved(current().served)
    seen = Seen(application.jobs(), everything(), stood, unserved)
    findings = ordered([*examine(seen), *answers.findings])
    _print(findings, answers.errors, as_json=as_json)
    base.leave(_code(findings, answers.errors))


def _ask() -> tuple[Sequence[Standing], Answers]:
    """Ask the databases, each with a deadline; what those know that answer is used."""
    engines = base.engines(current())
    reconcilers = list(units(everything(), engines, _SHARDS))
    home: Asked[list[Standing]] = Asked(lambda: standings(engines.home()))
    gone = base.reach(engines, reconcilers)
    answers = ask(reconcilers, engines, gone)
    stood = home.answer(SqlUnavailable, f"database {HOME!r}")
    unknown = home.error is not None and str(home.error) not in map(str, answers.errors)
    if unknown and isinstance(home.error, QikError) and not isinstance(home.error, NotMigrated):
        answers.errors.append(home.error)
    return stood or (), answers


def _code(findings: Sequence[Finding], errors: Sequence[Exception]) -> int:
    if errors:
        return max(map(code_of, errors))
    return FINDING if matters(each.severity for each in findings) else 0


def _print(findings: Sequence[Finding], errors: Sequence[Exception], *, as_json: bool) -> None:
    if as_json:
        shown: dict[str, Any] = {
            "findings": [each.as_json() for each in findings],
            "errors": [str(each) for each in errors],
        }
        click.echo(json.dumps(shown, indent=2))
        return
    for each in findings:
        colour = COLOURS[each.severity]
        click.secho(f"{each.severity:8} {each.check:22} {each.subject}: {each.what}", fg=colour)
        click.echo(f"{'':32}→ {each.remedy}")
    for error in errors:
        click.echo(f"reconciler: {error}", err=True)
    click.echo(f"{len(findings)} found" if findings else "nothing is found")
