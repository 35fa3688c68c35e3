"""The pages about what each class ran lately: all of them in a table, one of them by time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from qik_core.api import ClassHistory, ClassStats, Deploy, Runs
from qik_core.api.minutes import Span
from qik_core.options import is_job_name
from qik_core.web.asked import Ask, View
from qik_core.web.showing import cut

HOUR: Final = 60
_ROWS: Final = 500
_DEPLOYS: Final = 50
_TEXT: Final = 200


def jobs(ask: Ask) -> View:
    """Show what every class ran, those first that ran most."""
    minutes = ask.number("minutes", HOUR)
    seen = ClassStats.read(minutes, store=ask.store)
    rows = [
        {"class": cut(name, _TEXT), "has_page": is_job_name(name), **_numbers(runs)}
        for name, runs in list(seen.classes.items())[:_ROWS]
    ]
    data = {
        "classes": rows,
        "more": len(seen.classes) - len(rows),
        "whole": seen.whole,
        **_span(minutes, seen.span, seen.deploys),
    }
    return View("metrics.html", "Metrics by class", data)


def job(ask: Ask) -> View:
    """Show what one class ran, by time, and how long its runs took."""
    minutes, name = ask.number("minutes", HOUR), ask.text("class")
    seen = ClassHistory.read(name, minutes, store=ask.store)
    data = {
        "class": name,
        **_numbers(seen.total),
        "points": [
            {"at": at, **_numbers(runs)}
            for at, runs in zip(seen.span.starts, seen.runs, strict=True)
        ],
        "histogram": [
            {"upto": upto, "label": _label(upto), "runs": runs} for upto, runs in seen.histogram
        ],
        **_span(minutes, seen.span, seen.deploys),
    }
    return View("metrics_class.html", f"Metrics of {name}", data)


def _numbers(runs: Runs) -> dict[str, Any]:
    return {"processed": runs.processed, "failed": runs.failed, "mean": runs.mean}


def _span(minutes: int, span: Span, deploys: Sequence[Deploy]) -> dict[str, Any]:
    until: datetime = span.starts[-1] + timedelta(minutes=span.step)
    return {
        "minutes": minutes,
        "step": span.step,
        "since": span.starts[0],
        "until": until,
        "deploys": [
            {"at": each.at, "label": cut(each.label, _TEXT)} for each in deploys[-_DEPLOYS:]
        ],
    }


def _label(upto: float | None) -> str:
    """Return how a bucket is called: 20 ms, 1.1 s, 335 s; the last one is longer than all."""
    if upto is None:
        return "longer"
    return f"{upto * 1000:.0f} ms" if upto < 1 else f"{upto:g} s"
