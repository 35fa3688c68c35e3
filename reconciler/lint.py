"""What jobs and reconcilers could do wrong, found before they do. A closed set of findings, each with its remedy.

What can never work is an error at import and is not found here; this is about what works and will hurt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Engine

from qik_core.errors import QikError
from qik_core.findings import Severity
from reconciler.advice import index_for
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable
from reconciler.explain import BIG, Explained, explain
from reconciler.occurrences import source_of
from reconciler.sql import MYSQL, read_clock, reading, where
from reconciler.status import Standing

_CONNECT: Final = 5.0
_HOUR: Final = 3_600


class Check(StrEnum):
    """Everything that can be found."""

    UNRECONCILED = "unreconciled"
    NEEDLESS_REASON = "needless-reason"
    SHARED_KEYS = "shared-keys"
    NEVER_RETRIED = "never-retried"
    RETRIES_OUTLAST = "retries-outlast-unique"
    JITTER_NONE = "jitter-none"
    JITTER_WIDE = "jitter-wide"
    SLOW_PASS = "slow-pass"
    SCAN = "scan"
    SORT = "sort"
    STATEMENT = "statement"
    DATABASE = "database"
    NO_TIMEOUT = "no-timeout"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: about what, what it is, and what to do."""

    check: Check
    severity: Severity
    subject: str
    """The job, the reconciler or the database."""
    what: str
    remedy: str

    def as_json(self) -> dict[str, str]:
        """Return it as plain JSON values."""
        return {name: str(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Seen:
    """What an application defines, and what SQL knows of it."""

    jobs: Sequence[Any]
    """The engine's definitions of all jobs."""
    reconcilers: Sequence[Definition]
    standings: Sequence[Standing] = ()


def lint(seen: Seen) -> list[Finding]:
    """Return what is found in the definitions alone, and in how passes went."""
    return ordered(each for rule in _RULES for each in rule(seen))


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the worst first."""
    return sorted(findings, key=lambda each: (each.severity.rank, each.check, each.subject))


# --- jobs ----------------------------------------------------------------------------------------


def _told(seen: Seen) -> dict[str, list[Definition]]:
    """Return the reconcilers of each job, by its name."""
    found: defaultdict[str, list[Definition]] = defaultdict(list)
    for each in seen.reconcilers:
        found[each.facts.name].append(each)
    return found


def _unreconciled(seen: Seen) -> Iterator[Finding]:
    told = _told(seen)
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


def _shared(seen: Seen) -> Iterator[Finding]:
    for name, reconcilers in _told(seen).items():
        databases = sorted({each.database for each in reconcilers})
        if len(databases) > 1:
            yield Finding(
                Check.SHARED_KEYS,
                Severity.ERROR,
                name,
                f"reconcilers tell it from {', '.join(databases)}: one id in two databases is one lock, so one row of "
                "both is told",
                "Give the job an argument that names the database, and fill it in args=; or write a job for each",
            )


def _retries(seen: Seen) -> Iterator[Finding]:
    told = _told(seen)
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
    span = min(span_of(job.retry), job.fields.get("retry_for", span_of(job.retry)))
    if span > job.unique.seconds:
        yield Finding(
            Check.RETRIES_OUTLAST,
            Severity.NOTE,
            job.name,
            f"its retries take {_time(span)} and it is unique for {_time(job.unique.seconds)}: after that an application's "
            "push adds a second job beside the one that is retried",
            f"Use unique_for={span} or more, fewer retries, or retry_for={job.unique.seconds}",
        )


def span_of(retries: int) -> int:
    """Return the seconds between the first and the last failure of a job, without the random part."""
    return sum(each**4 + 15 for each in range(retries))


# --- reconcilers ---------------------------------------------------------------------------------


def _jitter(seen: Seen) -> Iterator[Finding]:
    for each in seen.reconcilers:
        if not each.jitter:
            yield Finding(
                Check.JITTER_NONE,
                Severity.NOTE,
                each.name,
                "without jitter all rows become due at once after a flush",
                f"Spread them: jitter=timedelta(seconds={max(1, int(each.every / 2))})",
            )
        elif each.jitter + each.min_age > each.every:
            yield Finding(
                Check.JITTER_WIDE,
                Severity.NOTE,
                each.name,
                f"a row may wait {each.min_age:g} s of min_age, up to {each.every:g} s for a pass and {each.jitter:g} s of "
                "jitter: more than two times every",
                "Use a shorter jitter or min_age, if rows are in a hurry",
            )


def _slow(seen: Seen) -> Iterator[Finding]:
    last = {each.reconciler: each.last for each in seen.standings}
    for each in seen.reconcilers:
        ended = last.get(each.name)
        if ended is not None and ended.seconds > each.every:
            yield Finding(
                Check.SLOW_PASS,
                Severity.WARNING,
                each.name,
                f"its last pass took {ended.seconds:g} s and one begins every {each.every:g} s",
                "Use a longer every, or look at its statement: `reconciler plan`",
            )


_RULES: Final = (_unreconciled, _shared, _retries, _jitter, _slow)


def _time(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (_HOUR, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:g} s"


# --- databases -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answers:
    """What databases answered: findings, and why some did not answer."""

    findings: list[Finding]
    errors: list[QikError]


def ask(
    reconcilers: Sequence[Definition],
    engines: Engines,
    gone: Mapping[str, Exception],
    *,
    big: int = BIG,
) -> Answers:
    """Look at the databases of reconcilers and at the statement of each; `gone` are those that do not answer."""
    found: list[Finding] = []
    errors: list[QikError] = []
    for name in sorted({each.database for each in reconcilers}):
        error = gone.get(name)
        if isinstance(error, SqlUnavailable):
            errors.append(error)
        elif error is not None:
            remedy = "Correct the setting, or the database= of its reconcilers"
            found.append(Finding(Check.DATABASE, Severity.ERROR, name, str(error), remedy))
        else:
            found += _timeouts(name, engines.engine(name))
    for each in reconcilers:
        if each.database not in gone:
            try:
                found += statement(each, engines.engine(each.database), big=big)
            except QikError as error:
                errors.append(error)
    return Answers(ordered(found), errors)


def statement(definition: Definition, engine: Engine, *, big: int = BIG) -> Iterator[Finding]:
    """Yield what is wrong with the statement of a reconciler's pages, by EXPLAIN.

    Raises:
        SqlUnavailable: the database does not answer.
    """
    try:
        first = source_of(definition, engine, read_clock(engine)).first
        values = {"qik__limit": definition.batch_size}
        seen = explain(engine, first, values, definition.statement_timeout, big=big)
    except QikError:
        raise
    except Exception as error:  # noqa: BLE001 - a statement that fails is what is looked for
        text = " ".join(str(error).split())
        remedy = "Correct the query, or bring the table up to date"
        yield Finding(Check.STATEMENT, Severity.ERROR, definition.name, f"{text:.300}", remedy)
        return
    yield from _scans(definition, engine, seen)


def _scans(definition: Definition, engine: Engine, seen: Explained) -> Iterator[Finding]:
    for scan in seen.scans:
        ddl = index_for(definition.shape, scan.source, engine.dialect)
        yield Finding(
            Check.SCAN,
            Severity.WARNING,
            definition.name,
            f"every page is a {scan}",
            ddl or "Compare a column that has an index, for equality, in its WHERE",
        )
        if seen.sorts and scan is seen.scans[0]:
            yield Finding(
                Check.SORT,
                Severity.NOTE,
                definition.name,
                "every page sorts all pending rows anew: no index has their order",
                "Use an index that ends with the columns of order_by and of the key",
            )


def _timeouts(name: str, engine: Engine) -> Iterator[Finding]:
    """Look at a live connection: what an application gave to `create_engine` can be seen nowhere else."""
    with reading(engine, _CONNECT) as connection:
        missing = missing_timeouts(engine.dialect.name, connection.connection.driver_connection)
    if missing:
        arguments = ", ".join(f"{each!r}: {_TIMEOUTS[each]}" for each in missing)
        yield Finding(
            Check.NO_TIMEOUT,
            Severity.WARNING,
            name,
            f"connections to {where(engine)} have no {' and no '.join(missing)}: a host that goes silent holds a pass up",
            f"create_engine(..., connect_args={{{arguments}}})",
        )


_TIMEOUTS: Final = {
    "connect_timeout": 3,
    "tcp_user_timeout": 30_000,
    "read_timeout": 30,
    "write_timeout": 30,
}


def missing_timeouts(dialect: str, raw: Any) -> list[str]:
    """Return which timeouts a driver's connection lacks; none where the driver is not known, or the server is local."""
    if dialect == "postgresql" and hasattr(raw, "info") and hasattr(raw.info, "get_parameters"):
        given = raw.info.get_parameters()
        if str(given.get("host", "/")).startswith("/"):
            return []
        return [each for each in ("connect_timeout", "tcp_user_timeout") if not given.get(each)]
    if dialect in MYSQL and hasattr(raw, "_read_timeout"):
        if getattr(raw, "unix_socket", None):
            return []
        found = {"read_timeout": raw._read_timeout, "write_timeout": raw._write_timeout}  # noqa: SLF001 - nowhere else
        return [name for name, value in found.items() if not value]
    return []
