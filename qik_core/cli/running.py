"""`qik busy` and `qik processes`: what runs where, and who runs it, as processes last said."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import click

from qik_core.api import Process, ProcessSet, Work, WorkSet
from qik_core.cli import base, completing, screen
from qik_core.cli.base import span
from qik_core.cli.listing import MOST, USUAL, filter_of, job_json
from qik_core.cli.screen import plain

_QUEUES: Final = 20
"""Of a process, and labels; their whole number stands beside them."""
_most = click.option(
    "--limit",
    type=click.IntRange(1, MOST),
    default=USUAL,
    show_default=True,
    help="Show so many at most.",
)


@click.command()
@click.argument("words", metavar="[FILTER]...", nargs=-1, shell_complete=completing.filters)
@_most
@base.redis_url
@base.as_json
def busy(words: Sequence[str], limit: int, redis_url: str | None, *, as_json: bool) -> None:
    """List the jobs that run, those first that have run longest.

    FILTER as in class:Charge args:42. `qik cancel JID` stops one.
    """
    store, wanted = base.store(redis_url), filter_of(words)
    running = base.within(base.ANSWER, lambda: list(WorkSet(store)), "Redis")
    meant = sorted((each for each in running if wanted(each.job)), key=_since)
    shown = meant[:limit]
    if as_json:
        rows = [_work_json(each) for each in shown]
        click.echo(json.dumps({"jobs": rows, "meant": len(meant), "of": len(running)}, indent=2))
        return
    if shown:
        heads = ("jid", "class", "queue", "for", "process", "args")
        screen.table(heads, [_work_row(each, time.time()) for each in shown])
    _summary(len(shown), len(meant))


@click.command()
@_most
@base.redis_url
@base.as_json
def processes(limit: int, redis_url: str | None, *, as_json: bool) -> None:
    """List the worker processes, Ruby's among them, those first that are busiest."""
    store = base.store(redis_url)
    found = base.within(base.ANSWER, lambda: list(ProcessSet(store)), "Redis")
    shown = sorted(found, key=lambda each: (-each.busy, each.identity))[:limit]
    if as_json:
        rows = [_process_json(each) for each in shown]
        click.echo(json.dumps({"processes": rows, "of": len(found)}, indent=2))
        return
    if shown:
        heads = ("process", "busy", "memory", "beat", "up", "queues", "")
        screen.table(heads, [_process_row(each, time.time()) for each in shown])
    _summary(len(shown), len(found))


def _summary(shown: int, of: int) -> None:
    more = "" if shown == of else ": --limit shows more"
    click.echo(f"{shown:,} of {of:,}{more}", err=True)


def _since(work: Work) -> float:
    return _epoch(work.since) or float("inf")


def _work_json(work: Work) -> dict[str, Any]:
    since = _epoch(work.since)
    place = {"process": plain(work.identity), "thread": plain(work.thread), "since": since}
    return {**job_json(work.job), **place}


def _work_row(work: Work, now: float) -> tuple[str, ...]:
    job = job_json(work.job)
    args = job["args_cut"] if job["args"] is None else json.dumps(job["args"])[1:-1]
    since = _ago(work.since, now)
    return job["jid"], job["class"], job["queue"], since, plain(work.identity), plain(args, 60)


def _process_json(process: Process) -> dict[str, Any]:
    return {
        "identity": plain(process.identity),
        "hostname": plain(process.hostname),
        "pid": process.pid,
        "version": plain(process.version),
        "busy": process.busy,
        "concurrency": process.concurrency,
        "queues": _texts(process.queues),
        "queues_of": len(process.queues),
        "labels": _texts(process.labels),
        "labels_of": len(process.labels),
        "quiet": process.quiet,
        "embedded": process.embedded,
        "rss_kb": process.rss,
        "started_at": _epoch(process.started_at),
        "beat_at": _epoch(process.beat_at),
    }


def _process_row(process: Process, now: float) -> tuple[str, ...]:
    words = (("quiet", process.quiet), ("embedded", process.embedded))
    return (
        process.identity,
        f"{process.busy} of {process.concurrency}",
        f"{process.rss / 1024:,.0f} MB",
        _ago(process.beat_at, now),
        _ago(process.started_at, now),
        plain(" ".join(process.queues), 60),
        " ".join(word for word, is_so in words if is_so),
    )


def _texts(texts: Iterable[str]) -> list[str]:
    return [plain(text) for text in texts][:_QUEUES]


def _epoch(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _ago(moment: datetime | None, now: float) -> str:
    return "-" if moment is None else span(max(now - moment.timestamp(), 0.0))
