"""`reconciler rebuild`: tells everything pending that has no job, at a chosen rate."""

from __future__ import annotations

import json
import re
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
from reconciler.rebuilt import RATE, Done, Order, Rebuilt, State
from reconciler.words import span

INTERRUPTED: Final = 130
"""What shells say of a command that Ctrl-C has ended."""
_NAMED: Final = 5
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)(?:/(s|min|h))?")
_PER: Final = {"s": 1.0, "min": 60.0, "h": 3600.0, None: 1.0}


def _rate(_context: click.Context, _parameter: click.Parameter, value: str) -> float | None:
    """Return rows a second; None for `max`, as fast as it goes."""
    if value == "max":
        return None
    found = _RATE.fullmatch(value)
    rate = 0.0 if found is None else float(found[1]) / _PER[found[2]]
    if rate <= 0:
        raise click.BadParameter(f"{value!r} is no rate: write 500/s, 10000/min, or max")
    return rate


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
    confirm(_question(wanted, order), yes=yes)
    done, interrupted = _run(wanted, order)
    if as_json:
        click.echo(json.dumps(done.as_json(), indent=2))
    else:
        _say(done)
    base.leave(INTERRUPTED if interrupted else _code(done))


def _question(wanted: Sequence[Definition], order: Order) -> str:
    names = ", ".join(each.name for each in wanted[:_NAMED])
    if len(wanted) > _NAMED:
        names += f" and {len(wanted) - _NAMED} more"
    speed = "as fast as it goes" if order.rate is None else f"{order.rate:g} rows a second"
    return f"tell every pending row without a job of {names}, {speed}"


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
    for part in done.parts:
        _say_part(part)
    counts = " · ".join(f"{code} {count:,}" for code, count in done.codes.items())
    speed = done.scanned / done.seconds if done.seconds else 0.0
    click.echo(
        f"rebuild {done.state} in {span(done.seconds)} · scanned {done.scanned:,} ({speed:,.0f} rows/s)"
        + (counts and f" · {counts}")
    )
    if done.error is not None:
        click.echo(f"reconciler: {done.error}", err=True)


def _say_part(part: Done) -> None:
    counts = " · ".join(f"{code} {count:,}" for code, count in part.codes.items())
    since = " since it was cut off" if part.resumed else ""
    click.echo(
        f"{part.unit}: {part.state} · scanned {part.scanned:,}{since}"
        + (counts and f" · {counts}")
        + (part.reason and f" · {part.reason}")
    )


def _code(done: Rebuilt) -> int:
    if done.error is not None:
        return code_of(done.error)
    if done.state is State.SWITCHED_OFF:
        return UNSAFE
    return 0 if all(each.state is State.COMPLETED for each in done.parts) else FINDING
