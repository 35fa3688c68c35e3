"""Numbers: one measurement, and what becomes of several."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from benchmarks.names import CaseName, Figure

OURS: Final = "qik"
LIMIT: Final = "limit"
_MISSING: Final = "missing"


@dataclass(frozen=True, slots=True)
class Measure:
    """One round of one case by one system."""

    case: CaseName
    system: str
    n: int
    value: float
    wrong: tuple[str, ...] = ()
    """What makes this round void: work that was lost, done twice or left behind."""
    figure: Figure = Figure.RATE
    round: int = 0
    """Which round of the run it is; `running.measure` says so."""


def rate(
    case: CaseName, system: str, n: int, seconds: float, wrong: tuple[str, ...] = ()
) -> list[Measure]:
    """Return the measure of n jobs that took so many seconds."""
    return [Measure(case, system, n, n / seconds, wrong)]


@dataclass(frozen=True, slots=True)
class Line:
    """All rounds of one figure of one case by one system, as they travel in a file of results."""

    case: CaseName
    figure: Figure
    system: str
    n: int
    value: float
    """The median of the rounds."""
    min: float
    max: float
    limit: float | None
    """The median of the raw operation in the same run."""
    ratio: float | None
    """The value over the limit."""
    versus: float | None
    """Of a peer: ours over theirs, the median of the rounds' ratios, since only pairs of one moment can be compared."""
    rounds: int
    void: tuple[str, ...]
    versions: Mapping[str, str]

    def to_json(self) -> str:
        """Return one JSON object on one line; rates are named twice, as `per_second` and `limit_per_second` too."""
        rates = self.figure is Figure.RATE
        values = {name: _short(value) for name, value in dataclasses.asdict(self).items()}
        values["per_second"] = values["value"] if rates else None
        values["limit_per_second"] = values["limit"] if rates else None
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Line:
        """Return the line that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        del values["per_second"], values["limit_per_second"]
        values["case"], values["figure"] = CaseName(values["case"]), Figure(values["figure"])
        return cls(**{**values, "void": tuple(values["void"])})


def text_of(lines: Iterable[Line], missing: Iterable[str]) -> str:
    """Return a file of results: one JSON object on each line, those of what is missing last."""
    told = [line.to_json() for line in lines]
    told += [json.dumps({_MISSING: each}) for each in missing]
    return "".join(f"{each}\n" for each in told)


def of_text(text: str) -> tuple[list[Line], Sequence[str]]:
    """Return the lines of a file of results, and what was not measured and why."""
    told = text.splitlines()
    missing = [values[_MISSING] for values in map(json.loads, told) if _MISSING in values]
    return [Line.from_json(each) for each in told[: len(told) - len(missing)]], missing


def _short(value: Any) -> Any:
    """Return a number with four digits that count, and everything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


@dataclass(slots=True)
class Results:
    """What a run has measured."""

    measures: list[Measure] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Rounds of peers that came to no end, each with what was said."""

    def lines(self, versions: Mapping[str, str]) -> list[Line]:
        """Return one line per case, figure and system, in the order of the first rounds."""
        groups: dict[tuple[CaseName, Figure, str], list[Measure]] = {}
        for measure in self.measures:
            groups.setdefault((measure.case, measure.figure, measure.system), []).append(measure)
        return [
            self._line(group, groups.get((case, figure, LIMIT)), versions)
            for (case, figure, _), group in groups.items()
        ]

    def versus(self, case: CaseName, peer: str, figure: Figure = Figure.RATE) -> float | None:
        """Return the median of ours over the peer's, round by round: only pairs of one moment can be compared."""
        ours, theirs = self._values(case, figure, OURS), self._values(case, figure, peer)
        pairs = [ours[at] / theirs[at] for at in ours.keys() & theirs.keys() if theirs[at]]
        return median(pairs) if pairs else None

    def _line(
        self, group: list[Measure], limits: list[Measure] | None, versions: Mapping[str, str]
    ) -> Line:
        first, values = group[0], [measure.value for measure in group]
        limit = median(each.value for each in limits) if limits else None
        raw = first.system == LIMIT
        return Line(
            first.case,
            first.figure,
            first.system,
            first.n,
            median(values),
            min(values),
            max(values),
            limit,
            median(values) / limit if limit and not raw else None,
            None
            if raw or first.system == OURS
            else self.versus(first.case, first.system, first.figure),
            len(group),
            tuple(sorted({problem for measure in group for problem in measure.wrong})),
            versions,
        )

    def _values(self, case: CaseName, figure: Figure, system: str) -> dict[int, float]:
        """Return round → value; a peer may have failed in some."""
        wanted = (case, figure, system)
        return {m.round: m.value for m in self.measures if (m.case, m.figure, m.system) == wanted}
