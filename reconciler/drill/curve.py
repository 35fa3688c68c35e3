"""The curve: pending, queued and done rows over time as SVG, each fault marked where it struck, and until it had healed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, log10
from typing import Final

from reconciler.drill.evidence import Fault, Sample

WIDTH: Final = 960
_LEFT: Final = 62
_RIGHT: Final = 14
_MARKS: Final = 34
"""Above the first panel: the numbers of the faults."""
_PANEL: Final = 150
_GAP: Final = 30
_AXIS: Final = 34
HEIGHT: Final = _MARKS + 2 * _PANEL + _GAP + _AXIS
_BUBBLE: Final = 9
_POINTS: Final = 800
"""Points of a line, at most."""
_LINES: Final = 5
"""Lines of a scale, at most."""
_TIMES: Final = 15
"""Moments named below the panels, at most."""


@dataclass(frozen=True, slots=True)
class _Panel:
    """One of the two fields: where it is, and what its scale ends with."""

    top: int
    most: int

    def y(self, value: float) -> float:
        return self.top + _PANEL * (1 - value / self.most)


def curve(samples: Sequence[Sample], faults: Sequence[Fault], seconds: float) -> str:
    """Return an SVG element; faults carry the numbers 1, 2, … in their order."""
    seconds = max(seconds, 1.0)
    samples = _thin(samples)
    waiting = max((max(each.pending, each.queued) for each in samples), default=0)
    done = max((each.done for each in samples), default=0)
    upper = _Panel(_MARKS, _round(waiting))
    lower = _Panel(_MARKS + _PANEL + _GAP, _round(done))
    parts = [
        *_bands(faults, seconds),
        *_scale(upper, "rows that wait"),
        *_scale(lower, "rows done"),
        *_times(seconds),
        _area(samples, lambda each: each.done, lower, seconds, "done"),
        _line(samples, lambda each: each.pending, upper, seconds, "pending"),
        _line(samples, lambda each: each.queued, upper, seconds, "queued"),
        *_marks(faults, seconds),
        *_legend(),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Pending, queued and done rows over {seconds:.0f} seconds, {len(faults)} faults marked">'
        + "".join(parts)
        + "</svg>"
    )


def _thin(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return as many as can be told apart, the highest and the last among them."""
    size = ceil(len(samples) / _POINTS)
    if size <= 1:
        return samples
    parts = (samples[at : at + size] for at in range(0, len(samples), size))
    return [*(max(part, key=lambda each: each.pending) for part in parts), samples[-1]]


def _x(at: float, seconds: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * min(max(at / seconds, 0.0), 1.0)


def _round(most: int) -> int:
    """Return the end of a scale: the number itself rounded up to two digits, and never nothing."""
    if most <= _LINES:
        return _LINES
    step: int = 10 ** max(int(log10(most)) - 1, 0)
    return ceil(most / step) * step


def _points(
    samples: Sequence[Sample], value: Callable[[Sample], int], panel: _Panel, seconds: float
) -> str:
    return " ".join(f"{_x(each.at, seconds):.1f},{panel.y(value(each)):.1f}" for each in samples)


def _line(
    samples: Sequence[Sample],
    value: Callable[[Sample], int],
    panel: _Panel,
    seconds: float,
    name: str,
) -> str:
    return f'<polyline class="{name}" points="{_points(samples, value, panel, seconds)}"/>'


def _area(
    samples: Sequence[Sample],
    value: Callable[[Sample], int],
    panel: _Panel,
    seconds: float,
    name: str,
) -> str:
    if not samples:
        return ""
    floor = panel.y(0)
    first, last = _x(samples[0].at, seconds), _x(samples[-1].at, seconds)
    points = _points(samples, value, panel, seconds)
    return f'<polygon class="{name}" points="{first:.1f},{floor:.1f} {points} {last:.1f},{floor:.1f}"/>'


def _scale(panel: _Panel, title: str) -> Iterator[str]:
    step = max(1, ceil(panel.most / _LINES))
    for value in range(0, panel.most + 1, step):
        y = panel.y(value)
        yield f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>'
        yield f'<text class="number" x="{_LEFT - 6}" y="{y + 4:.1f}">{value:,}</text>'
    yield f'<text class="name" x="{_LEFT + 4}" y="{panel.top + 12}">{escape(title)}</text>'


def _times(seconds: float) -> Iterator[str]:
    bottom = HEIGHT - _AXIS
    step = next(
        each
        for each in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, seconds)
        if seconds / each <= _TIMES
    )
    at = 0.0
    while at <= seconds:
        yield f'<text class="time" x="{_x(at, seconds):.1f}" y="{bottom + 16}">{at:g} s</text>'
        at += step


def _bands(faults: Sequence[Fault], seconds: float) -> Iterator[str]:
    """Yield a band from each fault to its end; one that never healed goes on to the edge."""
    for fault in faults:
        if fault.missed:
            continue
        left = _x(fault.at, seconds)
        right = _x(seconds if fault.healed is None else fault.healed, seconds)
        name = "band" if fault.healed is not None else "band open"
        height = 2 * _PANEL + _GAP
        yield (
            f'<rect class="{name}" x="{left:.1f}" y="{_MARKS}" '
            f'width="{max(right - left, 1.0):.1f}" height="{height}"/>'
        )


def _marks(faults: Sequence[Fault], seconds: float) -> Iterator[str]:
    for number, fault in enumerate(faults, 1):
        if fault.missed:
            continue
        x = _x(fault.at, seconds)
        took = "never whole again" if fault.took is None else f"whole after {fault.took:.1f} s"
        yield (
            f'<g class="mark"><title>{number}: {escape(fault.title)}, at {fault.at:.1f} s, {took}</title>'
            f'<line x1="{x:.1f}" y1="{_MARKS - 4}" x2="{x:.1f}" y2="{HEIGHT - _AXIS}"/>'
            f'<circle cx="{x:.1f}" cy="{_MARKS - 4 - _BUBBLE}" r="{_BUBBLE}"/>'
            f'<text x="{x:.1f}" y="{_MARKS - _BUBBLE}">{number}</text></g>'
        )


def _legend() -> Iterator[str]:
    x, y = WIDTH - _RIGHT - 190, _MARKS + 14
    for at, name in enumerate(("pending", "queued")):
        left = x + at * 100
        yield f'<line class="{name}" x1="{left}" y1="{y - 4}" x2="{left + 22}" y2="{y - 4}"/>'
        yield f'<text class="key" x="{left + 28}" y="{y}">{name}</text>'
