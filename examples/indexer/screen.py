"""What the demo shows while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.indexer.faults import Healing
from examples.indexer.verdict import DESCRIPTIONS, Finding

_EVERY = 2.0


@dataclass(frozen=True, slots=True)
class View:
    """What there is to see at one instant."""

    seconds: float
    done: int
    rows: int
    queued: int
    running: int
    healings: tuple[Healing, ...]


class Screen(Protocol):
    """Somewhere to show a demo."""

    def show(self, view: View) -> None:
        """Show how things stand."""

    def say(self, text: str) -> None:
        """Say what has happened."""


class Lines:
    """Plain lines: what happens, and every two seconds how things stand."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def show(self, view: View) -> None:
        """Show how things stand, if it was not said just now."""
        if view.seconds >= self._next:
            self._next = view.seconds + _EVERY
            self._console.print(
                f"{view.seconds:5.1f} s  {view.done}/{view.rows} rows done, {view.queued} jobs queued,"
                f" {view.running} running{_healing(view)}",
                highlight=False,
            )

    def say(self, text: str) -> None:
        """Say what has happened."""
        self._console.print(text, highlight=False, markup=False)


class Dashboard:
    """One table that changes in place; what happens scrolls above it."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, view: View) -> None:
        """Show how things stand."""
        self._live.update(_dashboard(view))

    def say(self, text: str) -> None:
        """Say what has happened."""
        self._live.console.print(text, highlight=False, markup=False)


def _healing(view: View) -> str:
    under_way = [healing for healing in view.healings if healing.fault.healed is None]
    return "".join(
        f", {len(healing.healed)}/{len(healing.fault.hit)} healed" for healing in under_way
    )


def _dashboard(view: View) -> Group:
    numbers = Text.assemble(
        (f"{view.seconds:5.1f} s  ", "dim"),
        (f"{view.done}/{view.rows}", "bold green"),
        f" rows done   {view.queued} jobs queued   {view.running} running",
    )
    bar = Table.grid()  # a bar alone does not end its line
    bar.add_row(ProgressBar(total=view.rows, completed=view.done, width=60))
    return Group(numbers, bar, _faults(view.healings)) if view.healings else Group(numbers, bar)


def _faults(healings: Iterable[Healing]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("fault", "rows hit", "healed", "again after", "whole after"):
        table.add_column(title, justify="left" if title == "fault" else "right")
    for healing in healings:
        fault = healing.fault
        style = "yellow" if fault.healed is None else "green"
        table.add_row(
            Text(DESCRIPTIONS[fault.kind], style=style),
            str(len(fault.hit)),
            str(len(healing.healed)),
            _seconds(fault.first, fault.at),
            _seconds(fault.healed, fault.at),
        )
    return table


def _seconds(moment: float | None, since: float) -> str:
    return "…" if moment is None else f"{moment - since:.1f} s"


def verdict(console: Console, findings: Iterable[Finding]) -> None:
    """Print every line of a verdict, with a mark before each."""
    for finding in findings:
        mark = Text("ok   ", style="green") if finding.good else Text("OFF  ", style="bold red")
        console.print(mark, f"{finding.what}: ", Text(finding.value), sep="", soft_wrap=True)
        if finding.detail:
            console.print(f"    {finding.detail}", soft_wrap=True, markup=False)
