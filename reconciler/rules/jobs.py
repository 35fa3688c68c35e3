"""Rules on jobs, and on what tells them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from qik_core import application
from qik_core.findings import Severity
from reconciler.definition import Definition
from reconciler.rules.found import Check, Finding, Seen, telling
from reconciler.words import span

_MONTH: Final = 30 * 86_400


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
    """A job of a reconciler is retried, not for weeks, and under its lock. One finding a job: one number is behind all."""
    told = telling(seen)
    for job in seen.jobs:
        tellers = told.get(job.name, [])
        found = _lasting(job, tellers) if job.retry > 0 else _never(job, tellers)
        if found is not None:
            yield found


def _never(job: Any, tellers: Sequence[Definition]) -> Finding | None:
    if not tellers:
        return None
    every = min(each.every for each in tellers)
    return Finding(
        Check.NEVER_RETRIED,
        Severity.NOTE,
        job.name,
        f"it is not retried, so what fails is told again by the next pass, after {every:g} s, without back-off",
        "Allow a few retries: retry=3",
    )


def _lasting(job: Any, tellers: Sequence[Definition]) -> Finding | None:
    """A row whose job never ends well is quarantined while somebody remembers it; retries end before the lock may."""
    took = min(span_of(job.retry), job.fields.get("retry_for", span_of(job.retry)))
    deaths = (
        tellers[0].quarantine.after if tellers else 0
    )  # the first by name says how often is too often
    outlasting = job.unique is not None and took > job.unique.seconds
    if took * deaths > _MONTH:
        text = (
            f"its retries take {span(took)}, and a row of {tellers[0].name} is quarantined after {deaths} deaths: "
            f"{span(took * deaths)} of retries"
        )
        few = int(_MONTH // took)
        remedy = "Use fewer retries, which passes make up for"
        return Finding(
            Check.QUARANTINE_FAR,
            Severity.NOTE,
            job.name,
            f"{text}. {_doubled(job)}" if outlasting else text,
            f"{remedy}, or Quarantine(after={few})" if few and not outlasting else remedy,
        )
    if outlasting:
        return Finding(
            Check.RETRIES_OUTLAST,
            Severity.NOTE,
            job.name,
            f"its retries take {span(took)}. {_doubled(job)}",
            f"Use unique_for={took} or more, fewer retries, or retry_for={job.unique.seconds}",
        )
    return None


def _doubled(job: Any) -> str:
    return (
        f"It is unique for {span(job.unique.seconds)}: after that an application's push adds a second job beside the one "
        "that is retried"
    )


def unserved(seen: Seen) -> Iterator[Finding]:
    """Every queue is served by a capsule of the settings."""
    for queue, users in seen.unserved.items():
        yield Finding(
            Check.UNSERVED,
            Severity.NOTE,
            queue,
            f"no capsule of the settings serves {application.named({queue: users})}: a worker that is started with them alone "
            "leaves its jobs where they are",
            f"Name it in the setting queues or in a capsule, or start its workers with `qik work -q {queue}`",
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
