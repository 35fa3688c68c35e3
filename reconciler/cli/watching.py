"""`reconciler status --watch`: how many rows are untold, drawn again each second until Ctrl-C."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event
from time import monotonic
from typing import Any, Final, NoReturn

import click

from qik_core.errors import StoreUnavailable
from qik_core.settings import Settings
from reconciler.cli import base
from reconciler.cli.base import Asked
from reconciler.errors import SqlUnavailable
from reconciler.watching import View, Watching, ordered
from reconciler.words import span

EVERY: Final = 1.0
_PATIENCE: Final = 1.5
"""Seconds for an answer: with EVERY, who falls silent is told of within 3."""
_SHARE: Final = 5.0
"""Looking takes a sixth of the time at most: a ledger of many reconcilers is long."""
_SHOWN: Final = 30
_REASON: Final = 60

Show = Callable[[View | None, list[str]], object]


def watch(settings: Settings, *, as_json: bool) -> NoReturn:
    """Look and show until INT or TERM."""
    asked = Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: asked.set())
    watching, seam = Watching(base.engines(settings).home()), base.seam()
    with _shown(as_json=as_json) as show:
        while not asked.is_set():
            redis: Asked[Any] = Asked(seam.look, _PATIENCE)
            epoch = redis.answer(StoreUnavailable, "Redis")
            loss = None if epoch is None else epoch.loss
            began = monotonic()
            sql: Asked[View] = Asked(partial(watching.look, loss), _PATIENCE)
            view = sql.answer(SqlUnavailable, "SQL")
            show(view, [str(each) for each in (sql.error, redis.error) if each])
            took = 0.0 if view is None else monotonic() - began
            asked.wait(max(EVERY - took, _SHARE * took))
    base.leave(0)


@contextmanager
def _shown(*, as_json: bool) -> Iterator[Show]:
    if as_json:
        yield _as_json
    elif sys.stdout.isatty():
        with _drawn() as show:
            yield show
    else:
        yield _as_line


@contextmanager
def _drawn() -> Iterator[Show]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(markup=False, emoji=False, highlight=False)
    with Live(console=console, auto_refresh=False) as live:

        def show(view: View | None, errors: list[str]) -> None:
            parts: list[Any] = [Text(error, style="red") for error in errors]
            if view is not None:
                parts = [_table(view), Text(_line(view)), *parts]
            live.update(Group(*parts), refresh=True)

        yield show


def _table(view: View) -> Any:
    from rich.table import Table
    from rich.text import Text

    heads = ("reconciler", "pending", "untold", "")
    table = Table(*heads, box=None, header_style="bold", pad_edge=False)
    for each in ordered(view.units)[:_SHOWN]:
        cells = (each.unit, _number(each.pending), _number(each.untold), each.doing[:_REASON])
        table.add_row(*map(Text, cells))
    return table


def _as_json(view: View | None, errors: list[str]) -> None:
    click.echo(json.dumps({**({} if view is None else view.as_json()), "errors": errors}))
    sys.stdout.flush()


def _as_line(view: View | None, errors: list[str]) -> None:
    if view is not None:
        busy = [each for each in ordered(view.units) if each.untold][:_SHOWN]
        named = "; ".join(f"{each.unit} {each.untold:,} ({each.doing[:_REASON]})" for each in busy)
        click.echo(_line(view) + (named and f" · {named}"))
    for error in errors:
        click.echo(f"reconciler: {error}", err=True)
    sys.stdout.flush()


def _line(view: View) -> str:
    text = f"untold {view.untold:,} of {view.pending:,} pending rows"
    if view.untold:
        eta = "not known" if view.eta is None else span(view.eta)
        text += f" · {view.rate:,.0f} rows/s · all told in: {eta}"
    if view.unknown:
        text += f" · not known of {', '.join(view.unknown[:3])}"
    return text


def _number(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
