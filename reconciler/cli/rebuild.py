"""`reconciler rebuild`: tells everything pending that has no job, at a chosen rate."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from qik_core.cli.group import FINDING, UNSAFE
from qik_core.settings import current
from reconciler.cli import base
from reconciler.cli.bars import bar
from reconciler.cli.base import code_of
from reconciler.cli.people import confirm, span_option, who
from reconciler.definition import Definition
from reconciler.journal import ended, question
from reconciler.rebuilt import RATE, Order, Rebuilt, State
from reconciler.words import rate_of

INTERRUPTED: Final = 130
"""What shells say of a command that Ctrl-C has ended."""


def _rate(_context: click.Context, _parameter: click.Parameter, value: str) -> float | None:
    """Return rows a second; None for `max`, as fast as it goes."""
    try:
        return rate_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("names", metavar="[RECONCILER]...", nargs=-1)
@click.option(
    "--rate",
    metavar="N/s",
    default=f"{RATE:g}/s",
    show_default=True,
    callback=_rate,
    help="Rows to tell, all reconcilers together; max: as fast as it goes.",
)
@click.option("--jitter", metavar="TIME", callback=span_option, help="Spread jobs over so long.")
@click.option("--override-switch", is_flag=True, help="Tell what a reconciler's switch stops.")
@click.option("--from-start", is_flag=True, help="Do not go on where a rebuild was cut off.")
@click.option("--reason", default="", help="Why, for the audit.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@base.app_option
@base.database_url
@base.redis_url
@base.as_json
def rebuild(names: Sequence[str], *, as_json: bool, yes: bool, **given: Any) -> NoReturn:
    """Tell every pending row of each RECONCILER (all by default) that has no job, most urgent first.

    Repeat it at will: a row that has a job gets no second one, and a rebuild that was cut off goes on. Ctrl-C ends it.
    """
    settings = base.load_settings(
        app=given["app"], database_url=given["database_url"], redis_url=given["redis_url"]
    )
    everything = base.reconcilers(settings, "rebuild NAME --app")
    from reconciler.registry import find

    wanted = [find(name) for name in dict.fromkeys(names)] or list(everything)
    base.with_redis()
    order = Order(
        rate=given["rate"],
        jitter=given["jitter"],
        override=given["override_switch"],
        fresh=given["from_start"],
        who=who(),
        reason=given["reason"],
    )
    confirm(question([each.name for each in wanted], order), yes=yes)
    done, interrupted = _run(wanted, order)
    if as_json:
        click.echo(json.dumps(done.as_json(), indent=2))
    else:
        _say(done)
    base.leave(INTERRUPTED if interrupted else _code(done))


def _run(wanted: Sequence[Definition], order: Order) -> tuple[Rebuilt, bool]:
    """Rebuild until the end, or until INT or TERM; a second one ends it at once."""
    from reconciler.lease import identity
    from reconciler.passes import Tools
    from reconciler.rebuild import rebuild as run

    asked = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, _: _ask(asked, number))
    tools = Tools.of(base.seam(), base.engines(current()), identity())
    with bar() as show:
        done = run(wanted, tools, order, stop=asked.is_set, tell=show)
    return done, asked.is_set()


def _ask(asked: threading.Event, number: int) -> None:
    asked.set()
    signal.signal(number, signal.SIG_DFL)


def _say(done: Rebuilt) -> None:
    for line in ended(done):
        click.echo(line)
    if done.error is not None:
        click.echo(f"reconciler: {done.error}", err=True)


def _code(done: Rebuilt) -> int:
    if done.error is not None:
        return code_of(done.error)
    if done.state is State.SWITCHED_OFF:
        return UNSAFE
    whole = all(each.state is State.COMPLETED and not each.reason for each in done.parts)
    return 0 if whole else FINDING
