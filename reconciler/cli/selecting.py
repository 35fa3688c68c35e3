"""What flush, export and import share: which jobs are meant, the application if there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from qik_core import application
from qik_core.cli.screen import PAPER, plain
from qik_core.errors import SettingsError
from qik_core.flushing import Place
from qik_core.settings import Settings
from reconciler.survey import Plan, Selection

F = TypeVar("F", bound=Callable[..., Any])

SETS: Final = {
    "queued": Place.QUEUED,
    "schedule": Place.SCHEDULED,
    "retry": Place.RETRYING,
    "dead": Place.DEAD,
    "held": Place.HELD,
}


def selectors(command: F) -> F:
    """Add the options that say which jobs are meant."""
    options = [
        click.option("--all", "everything", is_flag=True, help="All of them."),
        click.option("--class", "classes", metavar="CLASS", multiple=True, help="Of this class."),
        click.option("--queue", "queues", metavar="QUEUE", multiple=True, help="On this queue."),
        click.option("--tenant", metavar="TENANT", help="Whose row is pending and of this tenant."),
        click.option(
            "--set", "sets", type=click.Choice(list(SETS)), multiple=True, help="In this set."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def selection(
    *,
    everything: bool,
    classes: Sequence[str],
    queues: Sequence[str],
    tenant: str | None,
    sets: Sequence[str],
    put_back: bool = False,
) -> Selection:
    """Return which jobs are meant.

    Raises:
        UsageError: nothing is said, or --all and something else.
    """
    narrow = bool(classes or queues or sets or tenant is not None)
    if [everything, narrow, put_back].count(True) != 1:
        raise click.UsageError(
            "say which jobs: --all, or some of --class, --queue, --tenant and --set, which must all fit"
        )
    places = frozenset(SETS[each] for each in sets)
    return Selection(
        everything, frozenset(classes), frozenset(queues), places, tenant, put_back=put_back
    )


def load_app(settings: Settings) -> str:
    """Import the application; returns why its classes are not known, empty when they are."""
    if settings.app is None:
        return "no application is named (--app, QIK_APP, or app= in qik.toml)"
    try:
        application.load(settings.app)
    except SettingsError as error:
        return str(error)
    return ""


def check_names(plan: Plan) -> None:
    """Refuse a class or a queue that neither Redis nor the application knows.

    Raises:
        UsageError: says which one was meant.
    """
    if unknown := plan.unknown():
        raise click.UsageError(plain(unknown, PAPER))


def waits(what: str) -> None:
    """Say what a flush waits for, once."""
    if what not in _told:
        _told.add(what)
        click.echo(plain(what, PAPER), err=True)


_told: Final[set[str]] = set()
