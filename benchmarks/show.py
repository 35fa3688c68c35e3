"""Results for people: a table for the terminal, one for a page of Markdown, a chart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich.table import Table

from benchmarks.names import Figure
from benchmarks.report import Line

_TITLES: Final = (
    "case", "system", "n", "median", "min", "max", "counted in", "of limit", "qik is",
)  # fmt: skip
_LEFT: Final = frozenset({"case", "system", "counted in"})
_WIDTH: Final = 50


def table(lines: Iterable[Line]) -> Table:
    """Return the results as a table: median, range, share of the limit, and ours over each peer's."""
    found = Table(box=None, pad_edge=False)
    for title in _TITLES:
        found.add_column(title, justify="left" if title in _LEFT else "right")
    for line in lines:
        found.add_row(*_cells(line))
    return found


def markdown(lines: Sequence[Line]) -> str:
    """Return the same table for a page, with the versions below it."""
    rows = [_TITLES, tuple("---" if title in _LEFT else "---:" for title in _TITLES)]
    rows += [tuple(_cells(line)) for line in lines]
    versions = {name: text for line in lines for name, text in line.versions.items()}
    told = ", ".join(f"{name} {text}" for name, text in versions.items())
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{told}\n"


def missing(missing: Iterable[str]) -> str:
    """Return what was not measured as a list for a page, each with the first line of why; empty where all was."""
    told = "".join(f"* {each.splitlines()[0]}\n" for each in missing)
    return told and f"\nNot measured:\n\n{told}"


def put(page: str, mark: str, text: str) -> str:
    """Return a page with this text between `<!-- mark -->` and `<!-- end of mark -->`. Raises ValueError without those."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(
            f"the page has no lines {begin.strip()} and {end}: there the text would go"
        )
    return f"{before}{begin}\n{text.strip()}\n\n{end}{after}"


def chart(lines: Iterable[Line]) -> str:
    """Return bars, one group for each case and figure, the longest the largest of its group."""
    return "\n".join(row for group in _groups(lines) for row in _bars(group))


def _groups(lines: Iterable[Line]) -> Iterator[list[Line]]:
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        if not line.void:
            groups.setdefault((line.case, line.figure), []).append(line)
    yield from groups.values()


def _bars(group: Sequence[Line]) -> Iterator[str]:
    yield f"{group[0].case}, {group[0].figure}"
    most = max(line.value for line in group) or 1.0
    for line in sorted(group, key=_best_first):
        bar = "█" * max(round(_WIDTH * line.value / most), 1)
        yield f"  {line.system:<14} {bar} {number(line.value)}"
    yield ""


def _best_first(line: Line) -> float:
    return -line.value if line.figure is Figure.RATE else line.value


def _cells(line: Line) -> list[str]:
    values = (line.value, line.min, line.max)
    return [
        line.case,
        line.system,
        f"{line.n:,}",
        *(["VOID"] * 3 if line.void else [number(value) for value in values]),
        line.figure,
        "" if line.ratio is None else number(line.ratio),
        "" if line.versus is None else f"{number(line.versus)} x",
    ]


def number(value: float) -> str:
    """Return a number as people read it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - below, digits behind the point count
