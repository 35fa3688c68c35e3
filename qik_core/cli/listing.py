"""Jobs and queues on the screen and as JSON: a part of many, in a bounded time, and one of them whole."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Final

import click
import msgspec

from qik_core.api import Filter, JobRecord, JobSet, Stats
from qik_core.api.filters import Term
from qik_core.api.paging import MOST_JOBS, Page, page
from qik_core.cli import base, screen
from qik_core.cli.base import span
from qik_core.cli.group import FINDING
from qik_core.cli.screen import plain
from qik_core.store import Store
from qik_core.store.census import Where, census
from qik_core.store.overview import bytes_of, later_of

MOST: Final = 250
"""Jobs that are listed at once: a list stays below a megabyte."""
USUAL: Final = 50
PATIENCE: Final = 0.5
"""Seconds for which a filter is searched."""
SEARCH: Final = 2.0
"""Seconds for which the server looks for one job by its jid."""
_TAGS: Final = 10
_ARGS: Final = 1_000
_SHOWN: Final = 60
_ERROR: Final = 500
_WHOLE: Final = 20_000


def filter_of(words: Sequence[str]) -> Filter:
    """Return the filter that a person typed, in one word or in many. Raises FilterError."""
    return Filter.parse(" ".join(words))


def among(places: Iterable[JobSet], wanted: Filter) -> list[JobSet]:
    """Return the places in which jobs can be that are meant: `queue:billing` needs no other queue read."""
    named = [each.value for each in wanted.terms if _names_queue(each)]
    return [
        place
        for place in places
        if place.location.queue is None or all(name == place.location.queue for name in named)
    ]


def jid_of(wanted: Filter) -> str | None:
    """Return the jid if that is all that is said: one job, which the server finds."""
    if len(wanted.terms) != 1:
        return None
    term = wanted.terms[0]
    return term.value if term.key == "jid" and _exact(term) else None


def _names_queue(term: Term) -> bool:
    return term.key == "queue" and _exact(term)


def _exact(term: Term) -> bool:
    return not term.negated and "*" not in term.value


# --- many --------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    """Jobs that a filter means: as many as were wanted, or were found in time."""

    jobs: list[JobRecord] = field(default_factory=list)
    looked_at: int = 0
    of: int = 0
    """Jobs that there are."""
    whole: bool = True
    """Everything was looked at, so there are no others."""


def look(
    store: Store, places: Sequence[JobSet], wanted: Filter, limit: int, patience: float
) -> Found:
    """Return the first jobs that a filter means, found within `patience` seconds: of queues and of the dead the newest.

    A jid is looked for within SEARCH seconds at least. Raises StoreError.
    """
    jid = jid_of(wanted)
    if jid is not None:
        return find(places, jid, limit, max(patience, SEARCH))
    found = Found(of=sum(each.size for each in places))
    until = monotonic() + patience
    for part in _pages(store, places, wanted, found, (limit, until)):
        found.jobs += [each.job for each in part.jobs]
        found.looked_at += part.looked
    return found


def find(places: Sequence[JobSet], jid: str, limit: int, patience: float) -> Found:
    """Return the jobs with a jid, or how far the server looked within `patience` seconds: place by place. Raises StoreError."""
    until = monotonic() + patience
    sizes = [each.size for each in places]
    found = Found(of=sum(sizes))
    for place, size in zip(places, sizes, strict=True):
        try:
            job = base.within(max(until - monotonic(), 0), partial(place.find, jid), "Redis")
        except base.TooLong:
            break
        found.looked_at += size
        found.jobs += [] if job is None else [job]
        if len(found.jobs) == limit:
            break
    found.whole = found.looked_at >= found.of
    return found


def _pages(
    store: Store, places: Sequence[JobSet], wanted: Filter, found: Found, ends: tuple[int, float]
) -> Iterator[Page]:
    """Yield pages until the limit, a moment, or the end."""
    limit, until = ends
    for place in places:
        after: str | None = None
        while after != "":
            left, patience = limit - len(found.jobs), until - monotonic()
            if left <= 0 or (patience < 0 and found.looked_at):
                found.whole = found.looked_at >= found.of
                return
            count = min(left, MOST_JOBS)
            part = page(
                place, wanted, after=after or "", count=count, patience=patience, store=store
            )
            after = part.after
            yield part


def show_found(found: Found, when: str, *, as_json: bool) -> None:
    """Print jobs of a list; `when` is what their time is called."""
    if as_json:
        body = {"looked_at": found.looked_at, "of": found.of, "whole": found.whole}
        click.echo(json.dumps({"jobs": [job_json(job) for job in found.jobs], **body}, indent=2))
        return
    now = time.time()
    if found.jobs:
        rows = [_row(job, now) for job in found.jobs]
        screen.table(("jid", "class", "queue", when, "tries", "args", "error"), rows)
    click.echo(_summary(found), err=True)


def _summary(found: Found) -> str:
    if found.whole:
        return f"{len(found.jobs):,} of {found.of:,}"
    more = "--limit shows more, " if found.jobs else ""
    return f"{len(found.jobs):,} shown, {_searched(found)}: {more}--patience searches longer"


def _searched(found: Found) -> str:
    return f"looked at {found.looked_at:,} of {found.of:,}"


def _row(job: JobRecord, now: float) -> tuple[str, ...]:
    tries = "" if job.retry_count is None else str(job.retry_count + 1)
    error = f"{job.error_class}: {job.error_message}" if job.error_class else ""
    return (
        job.jid or "-",
        plain(job.display_class or "no job"),
        plain(job.queue),
        _when(job, now),
        tries,
        plain(_args(job), _SHOWN),
        plain(error, _SHOWN),
    )


def _when(job: JobRecord, now: float) -> str:
    since = job.score if job.score is not None else _seconds(job)
    if since is None:
        return "-"
    return f"in {span(since - now)}" if since > now else f"{span(now - since)} ago"


def _seconds(job: JobRecord) -> float | None:
    moment = job.enqueued_at or job.created_at
    return None if moment is None else moment.timestamp()


def _args(job: JobRecord) -> str:
    return msgspec.json.encode(job.display_args).decode()[1:-1]


def job_json(job: JobRecord) -> dict[str, Any]:
    """Return a job of a list as JSON values: long arguments are cut, and then a text."""
    args = _args(job)
    return {
        "jid": plain(job.jid),
        "class": plain(job.display_class),
        "queue": plain(job.queue),
        "state": job.location.state.value,
        "at": job.score if job.score is not None else _seconds(job),
        "tries": None if job.retry_count is None else job.retry_count + 1,
        "args": list(job.display_args) if len(args) <= _ARGS else None,
        "args_cut": None if len(args) <= _ARGS else plain(args, _ARGS),
        "error_class": plain(job.error_class),
        "error_message": plain(job.error_message, _ERROR),
        "tags": [plain(tag) for tag in job.tags[:_TAGS]],
        "tags_of": len(job.tags),
    }


# --- one ---------------------------------------------------------------------


def show_one(found: Found, jid: str, where: str, *, as_json: bool) -> None:
    """Print one job whole; exit code 1 when it was not found."""
    if not found.jobs:
        searched = f"{_searched(found)} in time, --patience searches longer"
        why = "it moved on, or never was here" if found.whole else searched
        click.echo(f"qik: no job {plain(jid)} in {where}: {why}", err=True)
        sys.exit(FINDING)
    (job,) = found.jobs
    if as_json:
        body = {"state": job.location.state.value, "at": job.score, **job.fields}
        body["error_backtrace"] = list(job.error_backtrace)
        if job.malformed:
            body["raw"] = job.original.decode("utf-8", "replace")
        click.echo(json.dumps(body, indent=2))
        return
    for name, text in _facts(job):
        if text:
            click.echo(f"{name:10} {plain(text, _WHOLE)}")
    for line in job.error_backtrace:
        click.echo(f"{'':10} {plain(line.rstrip(), _WHOLE)}")


def _facts(job: JobRecord) -> Sequence[tuple[str, str]]:
    tries = "" if job.retry_count is None else str(job.retry_count + 1)
    moments = (("due", job.at), ("pushed", job.created_at), ("enqueued", job.enqueued_at))
    failed = (("failed", job.failed_at), ("retried", job.retried_at))
    error = f"{job.error_class}: {job.error_message}" if job.error_class else ""
    return (
        ("jid", job.jid),
        ("class", job.display_class),
        ("args", _args(job)),
        ("state", job.location.state.value),
        ("queue", job.queue),
        ("lock", str(job.unique or "")),
        *((name, f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "") for name, at in (*moments, *failed)),
        ("tags", ", ".join(job.tags)),
        ("tries", tries),
        ("error", error),
        ("bytes", job.original.decode("utf-8", "replace") if job.malformed else ""),
    )


# --- queues ------------------------------------------------------------------


def show_queues(store: Store, *, weigh: bool, as_json: bool) -> None:
    """Print every queue with its numbers."""
    rows = base.within(base.ANSWER, lambda: _queues(store, weigh=weigh), "Redis")
    if as_json:
        click.echo(json.dumps({"queues": rows}, indent=2))
        return
    heads = ("queue", "queued", "later", "latency", *(("memory",) if weigh else ()), "")
    cells = [
        (
            each["queue"],
            f"{each['queued']:,}",
            f"{each['later']:,}",
            span(each["latency"]),
            *((f"{each['bytes'] / 1024:,.0f} KB",) if weigh else ()),
            "paused" if each["paused"] else "",
        )
        for each in rows
    ]
    screen.table(heads, cells)


def _queues(store: Store, *, weigh: bool) -> list[dict[str, Any]]:
    stats = Stats.read(store).queues.values()
    later = later_of(store.links, [each.name for each in stats])
    sizes = bytes_of(store.links, [each.name for each in stats]) if weigh else {}
    return [
        {
            "queue": each.name,
            "queued": each.size,
            "later": later[each.name],
            "latency": round(each.latency, 3),
            "paused": each.paused,
            **({"bytes": sizes[each.name]} if weigh else {}),
        }
        for each in stats
    ]


def show_classes(store: Store, *, as_json: bool) -> None:
    """Print how many jobs of which class wait where, the MOST frequent classes.

    Of long lists a part is counted, and the rest taken to be like it.
    """
    found = base.within(base.ANSWER, lambda: census(store.links), "Redis")
    ordered = sorted(found.jobs.items(), key=lambda each: (-each[1].total(), each[0]))[:MOST]
    if as_json:
        rows = [{"class": name, **{str(at): jobs[at] for at in Where}} for name, jobs in ordered]
        body = {"classes": rows, "of": len(found.jobs), "exact": found.exact}
        click.echo(json.dumps(body, indent=2))
        return
    cells = [(name or "not ours", *(f"{jobs[at]:,}" for at in Where)) for name, jobs in ordered]
    screen.table(("class", *map(str, Where)), cells)
    if len(cells) < len(found.jobs):
        click.echo(f"{len(cells):,} of {len(found.jobs):,} classes", err=True)
    if not found.exact:
        click.echo("about: of long lists a part was counted", err=True)
