"""All pages and actions of the dashboard in one table: routes, JSON, the OpenAPI document and tests are made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from qik_core.web import about, metrics
from qik_core.web.acts import Acts
from qik_core.web.looks import Looks
from qik_core.web.tabs import Tab, TabPage

_LIST = ("where", "after", "count")


def ways(looks: Looks, acts: Acts, tabs: Sequence[Tab]) -> Iterator[TabPage]:
    """Yield every page."""
    yield TabPage("/", "How much of everything there is, and how it went", looks.overview)
    yield TabPage("/pulse", "The totals alone", looks.pulse)
    yield TabPage(
        "/queues", "All queues: depth, latency, whether paused; what is held", looks.queues
    )
    yield TabPage(
        "/queues/{queue}",
        "One queue and its jobs; pause and resume it",
        looks.queue,
        acts.queue,
        _LIST,
    )
    yield TabPage("/busy", "Processes, and what runs", looks.busy)
    yield TabPage("/metrics/jobs", "What each class ran lately", metrics.jobs, None, ("minutes",))
    yield TabPage(
        "/metrics/jobs/{class}",
        "What one class ran lately, by time, and how long its runs took",
        metrics.job,
        None,
        ("minutes",),
    )
    for name, title in (("scheduled", "Scheduled"), ("retries", "Retries"), ("dead", "Dead")):
        show = partial(looks.place, name=name, title=title)
        yield TabPage(f"/{name}", f"{title} jobs", show, None, _LIST)
    yield TabPage(
        "/jobs",
        "Jobs that a filter means, of one place or of all",
        looks.jobs,
        acts.jobs,
        ("place", *_LIST),
    )
    yield TabPage(
        "/jobs/{jid}", "One job: its life so far, error, lock", looks.job, None, ("place", "mark")
    )
    yield TabPage("/jobs/{jid}/cancel", "Cancel a job, wherever it is", None, acts.cancel)
    yield TabPage("/bulk", "Act on all jobs that a filter means", None, acts.bulk)
    yield TabPage("/processes", "Ask processes to be quiet or to stop", None, acts.processes)
    yield TabPage("/aside", "What nobody can run: no jobs at all, unknown classes", looks.aside)
    yield TabPage(
        "/doctor", "What is wrong with Redis, the settings, the application", about.doctor
    )
    yield TabPage("/settings", "Every setting, its value and where it came from", about.settings)
    for tab in tabs:
        yield from tab.pages
