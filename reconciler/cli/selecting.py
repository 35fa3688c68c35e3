"""What flush, export and import share: which jobs are meant, the application if there is one, how far it is, sizes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final, TypeVar

import click

from qik_core import application
from qik_core.errors import SettingsError
from qik_core.flushing import Place
from qik_core.settings import Settings
from reconciler.survey import Plan, Say, Selection
from reconciler.words import meant

F = TypeVar("F", bound=Callable[..., Any])

SETS: Final = {
    "queued": Place.QUEUED,
    "schedule": Place.SCHEDULED,
    "retry": Place.RETRYING,
    "dead": Place.DEAD,
    "held": Place.HELD,
}
_EVERY: Final = 5.0
_OFTEN: Final = 0.1


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
    jobs = application.jobs()
    _check("class", plan.selection.classes, plan.names | {each.name for each in jobs})
    _check("queue", plan.selection.queues, plan.queues | {each.queue for each in jobs})


def _check(kind: str, wanted: Iterable[str], known: set[str]) -> None:
    for name in sorted(set(wanted) - known):
        there = ", ".join(sorted(known)[:20]) or "none"
        near = meant(name, sorted(known))
        raise click.UsageError(f"there is no job of {kind} {name!r}{near}; there are: {there}")


def size(count: int) -> str:
    """Return a number of bytes for people."""
    for unit, name in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


@contextmanager
def progress(total: int | None = None) -> Iterator[Say]:
    """Yield what shows how far something is on standard error: in one line on a terminal, else every 5 s."""
    person = sys.stderr.isatty()
    last = [monotonic()]

    def say(what: str, count: int) -> None:
        if monotonic() - last[0] < (_OFTEN if person else _EVERY):
            return
        last[0] = monotonic()
        of = f" of {total:,} ({count / total:.0%})" if total else ""
        click.echo(
            f"\r{count:,}{of} {what}\x1b[K" if person else f"{count:,}{of} {what}",
            err=True,
            nl=not person,
        )

    yield say
    if person:
        click.echo("\r\x1b[K", err=True, nl=False)


def waits(holder: str) -> None:
    """Say for whom a flush waits, once."""
    if holder not in _told:
        _told.add(holder)
        click.echo(f"{holder or 'somebody'} flushes now: this waits until that has ended", err=True)


_told: Final[set[str]] = set()
