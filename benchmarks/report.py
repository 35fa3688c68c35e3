"""Numbers: one measurement, what becomes of several, and how they are printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.table import Table

OURS = "qik"
LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Measure:
    """One round of one case by one system."""

    case: str
    system: str
    n: int
    seconds: float
    wrong: tuple[str, ...] = ()
    """What makes this round void: work that was lost, done twice or left behind."""

    @property
    def per_second(self) -> float:
        """Jobs a second."""
        return self.n / self.seconds


@dataclass(frozen=True, slots=True)
class Summary:
    """All rounds of one case by one system. Rates are jobs a second."""

    case: str
    system: str
    n: int
    rates: tuple[float, ...]
    wrong: tuple[str, ...]
    limit: float | None
    """The median rate of the raw server in the same run."""

    @property
    def per_second(self) -> float:
        """The median rate."""
        return median(self.rates)

    @property
    def ratio(self) -> float | None:
        """The share of the limit that was reached."""
        return None if self.limit is None else self.per_second / self.limit

    def to_json(self, versions: Mapping[str, str]) -> str:
        """Return one JSON object on one line."""
        values: dict[str, Any] = {
            "case": self.case,
            "system": self.system,
            "n": self.n,
            "seconds": round(self.n / self.per_second, 4),
            "per_second": round(self.per_second),
            "limit_per_second": None if self.limit is None else round(self.limit),
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "min_per_second": round(min(self.rates)),
            "max_per_second": round(max(self.rates)),
            "rounds": len(self.rates),
            "void": list(self.wrong),
            "versions": dict(versions),
        }
        return json.dumps(values)


@dataclass(slots=True)
class Results:
    """What a run has measured."""

    measures: list[Measure] = field(default_factory=list)

    def summaries(self) -> list[Summary]:
        """Return one summary per case and system, in the order of the first rounds."""
        groups: dict[tuple[str, str], list[Measure]] = {}
        for measure in self.measures:
            groups.setdefault((measure.case, measure.system), []).append(measure)
        limits = {
            case: median(m.per_second for m in group)
            for (case, system), group in groups.items()
            if system == LIMIT
        }
        return [
            Summary(
                case,
                system,
                group[0].n,
                tuple(m.per_second for m in group),
                tuple(sorted({problem for m in group for problem in m.wrong})),
                limits.get(case),
            )
            for (case, system), group in groups.items()
        ]

    def versus(self, case: str, peer: str) -> float | None:
        """Return the median of ours over the peer's, round by round: only pairs of one moment can be compared."""
        ours = [m.per_second for m in self.measures if (m.case, m.system) == (case, OURS)]
        theirs = [m.per_second for m in self.measures if (m.case, m.system) == (case, peer)]
        pairs = [mine / other for mine, other in zip(ours, theirs, strict=False)]
        return median(pairs) if pairs else None


def table(summaries: Iterable[Summary], results: Results) -> Table:
    """Return the results as a table: median, range, share of the limit, and ours over each peer's."""
    found = Table(box=None, pad_edge=False)
    for title in ("case", "system", "n", "median/s", "min/s", "max/s", "of limit", "qik is"):
        found.add_column(title, justify="left" if title in ("case", "system") else "right")
    for summary in summaries:
        found.add_row(*_cells(summary, results))
    return found


def _cells(summary: Summary, results: Results) -> list[str]:
    rates = (summary.per_second, min(summary.rates), max(summary.rates))
    numbers = ["VOID"] * 3 if summary.wrong else [f"{rate:,.0f}" for rate in rates]
    share = "" if summary.ratio is None or summary.system == LIMIT else f"{summary.ratio:.2f}"
    times = None if summary.system == OURS else results.versus(summary.case, summary.system)
    return [
        summary.case,
        summary.system,
        f"{summary.n:,}",
        *numbers,
        share,
        "" if times is None or summary.system == LIMIT else f"{times:.1f} x",
    ]
