"""Samples, and the text that Prometheus reads: exposition format 0.0.4. Standard library only.

A sample is a value under its family's name and what stands behind that name: `_bucket{class="A",le="0.1"}`, `{name="x"}` or "".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final

from qik_core.probes.families import BOUNDS, HISTOGRAM, Family

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Samples = dict[str, dict[str, float]]
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def labels(**named: str) -> str:
    """Return labels as they stand behind a name: `{a="b"}`; names may end with `_` where Python reserves them."""
    inside = ",".join(
        f'{name.rstrip("_")}="{value.translate(_ESCAPES)}"' for name, value in named.items()
    )
    return f"{{{inside}}}" if inside else ""


def histogram(named: str, counts: Sequence[int], seconds: float) -> dict[str, float]:
    """Return the samples of a histogram: `counts` has one more than BOUNDS, for what lies above the last one."""
    inside = named[1:-1] + "," if named else ""
    bounds = [f"{bound:g}" for bound in BOUNDS] + ["+Inf"]
    samples: dict[str, float] = {
        f'_bucket{{{inside}le="{bound}"}}': count
        for bound, count in zip(bounds, accumulate(counts), strict=True)
    }
    samples[f"_sum{named}"] = seconds
    samples[f"_count{named}"] = sum(counts)
    return samples


def add(total: Samples, more: Mapping[str, Mapping[str, float]]) -> None:
    """Add samples to others, value by value."""
    for name, samples in more.items():
        there = total.setdefault(name, {})
        for key, value in samples.items():
            there[key] = there.get(key, 0) + value


def render(families: Iterable[Family], samples: Mapping[str, Mapping[str, float]]) -> str:
    """Return the page: each family that has samples, with its help and type in front."""
    lines: list[str] = []
    for family in families:
        if not (found := samples.get(family.name)):
            continue
        lines += (f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}")
        lines += (f"{family.name}{key} {_number(value)}" for key, value in found.items())
    return "\n".join(lines) + "\n"


def counted(families: Iterable[Family]) -> frozenset[str]:
    """Return the names of the families whose values only rise."""
    return frozenset(each.name for each in families if each.kind in {"counter", HISTOGRAM})


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(value)
