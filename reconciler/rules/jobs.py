"""Rules on jobs, and on what tells them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qik_core.findings import Severity
from reconciler.rules.found import Check, Finding, Seen, telling
from reconciler.words import span


def unreconciled(seen: Seen) -> Iterator[Finding]:
    """Every job has a reconciler, or says why it needs none."""
    told = telling(seen)
    for job in seen.jobs:
        if job.name not in told and job.exempt is None:
            yield Finding(
                Check.UNRECONCILED,
                Severity.WARNING,
                job.name,
                "no reconciler tells it again: a loss of Redis loses its jobs",
                f"Write a Reconciler with pending = derive({job.name}, select(...)), or say why none is needed: "
                f"class {job.name}(Job, reconciled=False, reason='...')",
            )
        elif job.name in told and job.exempt is not None:
            yield Finding(
                Check.NEEDLESS_REASON,
                Severity.WARNING,
                job.name,
                f"it says that no reconciler tells it ({job.exempt}), and {told[job.name][0].name} does",
                "Remove reconciled=False and its reason, or the reconciler",
            )


def shared(seen: Seen) -> Iterator[Finding]:
    """One job is told from one database, or names it in its key."""
    for name, reconcilers in telling(seen).items():
        databases = sorted({each.database for each in reconcilers if each.shards is None})
        if len(databases) > 1:
            yield Finding(
                Check.SHARED_KEYS,
                Severity.ERROR,
                name,
                f"reconcilers tell it from {', '.join(databases)}: one id in two databases is one lock, so one row of "
                "both is told",
                "Give the job an argument that names the database, and fill it in args=; or write a job for each",
            )


def retries(seen: Seen) -> Iterator[Finding]:
    """A job of a reconciler is retried, and under its lock."""
    told = telling(seen)
    for job in seen.jobs:
        if job.retry <= 0 and job.name in told:
            every = min(each.every for each in told[job.name])
            yield Finding(
                Check.NEVER_RETRIED,
                Severity.NOTE,
                job.name,
                f"it is not retried, so what fails is told again by the next pass, after {every:g} s, without back-off",
                "Allow a few retries: retry=3",
            )
        yield from _outlasting(job)


def _outlasting(job: Any) -> Iterator[Finding]:
    """Retries go on under the lock for longer than an application's duplicate is refused."""
    if job.unique is None or job.retry <= 0:
        return
    took = min(span_of(job.retry), job.fields.get("retry_for", span_of(job.retry)))
    if took > job.unique.seconds:
        yield Finding(
            Check.RETRIES_OUTLAST,
            Severity.NOTE,
            job.name,
            f"its retries take {span(took)} and it is unique for {span(job.unique.seconds)}: after that an application's "
            "push adds a second job beside the one that is retried",
            f"Use unique_for={took} or more, fewer retries, or retry_for={job.unique.seconds}",
        )


def span_of(retries: int) -> int:
    """Return the seconds between the first and the last failure of a job, without the random part."""
    return sum(each**4 + 15 for each in range(retries))


def shards(seen: Seen) -> Iterator[Finding]:
    """Who pushes a job of shards names the shard: else its key is another one, and the row is told once more."""
    for name, reconcilers in telling(seen).items():
        spread = [each for each in reconcilers if each.shards is not None]
        if not spread:
            continue
        if not spread[0].facts.parameters[0].required:
            yield Finding(
                Check.SHARD_OPTIONAL,
                Severity.WARNING,
                name,
                "its shard has a default, so it can be pushed without one: that job has a key which no pass and no row has",
                "Write def perform(self, shard: str, …) without a default",
            )
        if len(spread) < len(reconcilers):
            alone = next(each.name for each in reconcilers if each.shards is None)
            yield Finding(
                Check.SHARD_MISSING,
                Severity.ERROR,
                name,
                f"{spread[0].name} tells it with its shard in front, and {alone} without shards=",
                "Give both the same Shards, or write a job for each",
            )
