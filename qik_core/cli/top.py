"""`qik top`: what happens now, drawn again each second until q or Ctrl-C; where nobody looks at a terminal, a line each."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from time import monotonic
from typing import Final

import click

from qik_core.cli import base
from qik_core.cli.glimpse import Glimpse, Rates, View
from qik_core.cli.group import NO_REDIS
from qik_core.errors import StoreError
from qik_core.settings import current
from qik_core.store import Store

_PATIENCE: Final = 1.5
"""Seconds for one look: with a second between two, a Redis that falls silent is told of within 3."""
_SHARE: Final = 5.0
"""Looking takes a sixth of the time at most."""
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"

Show = Callable[[View], object]
Wait = Callable[[float], bool]


@click.command()
@click.option(
    "--every",
    type=click.FloatRange(0.1, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option("-n", "--times", type=click.IntRange(1), help="End after so many looks.")
@base.redis_url
@base.as_json
def top(every: float, times: int | None, redis_url: str | None, *, as_json: bool) -> None:
    """Show what happens now: rates, queues by depth and latency, jobs that run longest.

    q or Ctrl-C ends it. Without a terminal, or with --json, each look is a line. While Redis does not answer, that is
    said; it goes on by itself.
    """
    store = base.store(redis_url)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Who is started by a script in the background is born ignoring INT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(KeyboardInterrupt), _shown(as_json=as_json) as (show, wait):
        if not _watch(store, show, lambda took: wait(max(every - took, _SHARE * took)), times):
            sys.exit(NO_REDIS)


def _watch(store: Store, show: Show, wait: Wait, times: int | None) -> bool:
    """Look and show until somebody ends it; says whether Redis answered last."""
    rates, where = Rates(), str(current().masked()["redis"])
    view, answered, looks = View(where, rates), monotonic(), 0
    while True:
        began = monotonic()
        try:
            seen = base.within(_PATIENCE, lambda: Glimpse.take(store), where)
            answered = monotonic()
            rates.saw(seen.stats, answered)
            view = View(where, rates, seen)
        except StoreError as error:
            view = View(where, rates, view.glimpse, str(error), monotonic() - answered)
        show(view)
        looks += 1
        if looks == times or wait(monotonic() - began if not view.error else 0.0):
            return not view.error


@contextmanager
def _shown(*, as_json: bool) -> Iterator[tuple[Show, Wait]]:
    if as_json:
        yield _print_json, Event().wait
    elif sys.stdout.isatty():
        with _keys() as wait:
            try:
                click.echo(_ENTER, nl=False)
                yield _draw, wait
            finally:
                click.echo(_LEAVE, nl=False)
    else:
        yield _print_line, Event().wait


@contextmanager
def _keys() -> Iterator[Wait]:
    """Yield what waits, and says whether somebody typed q; each key counts at once."""
    if not sys.stdin.isatty():
        yield Event().wait
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield lambda seconds: _typed_q(number, monotonic() + seconds)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _typed_q(number: int, until: float) -> bool:
    while select.select([number], [], [], max(until - monotonic(), 0.0))[0]:
        typed = os.read(number, 100)
        if not typed or b"q" in typed.lower():
            return True
    return False


def _draw(view: View) -> None:
    width, height = shutil.get_terminal_size()
    lines = view.lines(width - 1, height - 1)
    text = "".join(f"{line}{_END_OF_LINE}\n" for line in lines)
    click.echo(f"{_HOME}{text}{_BELOW}", nl=False)


def _print_json(view: View) -> None:
    click.echo(json.dumps(view.as_json()))


def _print_line(view: View) -> None:
    if view.error:
        click.echo(f"qik: {view.error}", err=True)
    else:
        click.echo(view.line())
