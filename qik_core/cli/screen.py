"""What the commands `qik` and `reconciler` print with: what Redis or SQL holds is shown as it is, and obeyed in nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Final

import click

PAPER: Final = 1_000
"""Columns where nobody looks at a terminal: nothing is folded."""

_HIDDEN: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that a terminal obeys, or that hide others."""
_OFTEN: Final = 0.1
_SELDOM: Final = 5.0

Say = Callable[[str, int], object]
"""Takes what is being done, and how many so far."""


def plain(text: str, most: int = 200) -> str:
    """Return a text that came from Redis so that a terminal shows it and obeys nothing in it; its end may be cut off."""
    shown = _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text[: most + 1])
    return shown if len(text) <= most else f"{shown[: most - 1]}…"


def plain_lines(text: str) -> str:
    """Return a text of several lines so that a terminal shows it and obeys nothing in it but their ends."""
    return "\n".join(plain(line, PAPER) for line in text.split("\n"))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, paper: int = PAPER) -> None:
    """Print rows under their heads; `paper`: columns where nobody looks at a terminal."""
    cells = [[plain(cell, paper) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _on_screen(heads, cells)
    else:
        _on_paper(heads, cells)


def _on_screen(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    made = Table(*heads, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        made.add_row(*row)
    # `[/b]` is no markup, `:100:` no picture.
    console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
    console.print(made)


def _on_paper(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write lines as they are: to lay them out for a screen would take longer than to ask for them."""
    from rich.cells import cell_len

    lines = [heads, *rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = zip(line, widths, strict=True)
        click.echo("  ".join(cell + " " * (width - cell_len(cell)) for cell, width in cells))


@contextmanager
def progress(total: int | None = None) -> Iterator[Say]:
    """Yield what shows how far something is on standard error: in one line on a terminal, else every 5 s."""
    person = sys.stderr.isatty()
    last = [monotonic()]

    def say(what: str, count: int) -> None:
        if monotonic() - last[0] < (_OFTEN if person else _SELDOM):
            return
        last[0] = monotonic()
        of = f" of {total:,} ({count / max(total, count):.0%})" if total else ""
        text = f"{count:,}{of} {what}"
        click.echo(f"\r{text}\x1b[K" if person else text, err=True, nl=not person)

    try:
        yield say
    finally:
        if person:
            click.echo("\r\x1b[K", err=True, nl=False)
