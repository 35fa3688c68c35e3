"""How far a rebuild is, on standard error: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

import click

from reconciler.journal import told
from reconciler.rebuilt import Progress

_EVERY: Final = 5.0
"""Seconds between two lines where nobody looks at a terminal."""


@contextmanager
def bar() -> Iterator[Callable[[Progress], object]]:
    """Yield what shows how far a rebuild is."""
    with _drawn() if sys.stderr.isatty() else _written() as show:
        yield show


@contextmanager
def _drawn() -> Iterator[Callable[[Progress], object]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = TextColumn("rebuild"), BarColumn(), TextColumn("{task.description}")
    noted = _Noted()
    with Bars(*columns, console=Console(stderr=True), transient=False) as bars:
        task = bars.add_task("", total=None)

        def show(seen: Progress) -> None:
            for note in noted.new(seen):
                bars.console.print(note, markup=False, highlight=False)
            line = escape(told(seen))
            bars.update(task, completed=seen.scanned, total=seen.total, description=line)

        yield show


@contextmanager
def _written() -> Iterator[Callable[[Progress], object]]:
    noted, last = _Noted(), [float("-inf")]

    def show(seen: Progress) -> None:
        for note in noted.new(seen):
            click.echo(note, err=True)
        if monotonic() - last[0] >= _EVERY:
            last[0] = monotonic()
            click.echo(f"rebuild: {told(seen)}", err=True)

    yield show


class _Noted:
    """Which notes were shown already."""

    def __init__(self) -> None:
        self._shown = 0

    def new(self, seen: Progress) -> tuple[str, ...]:
        notes = seen.notes[self._shown :]
        self._shown = len(seen.notes)
        return notes
