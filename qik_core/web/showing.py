"""Jobs and numbers as people read them: short, bounded, and without what must not be seen."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from qik_core import registry
from qik_core.api import JobRecord, Work
from qik_core.api.paging import Marked

REDACTED: Final = (
    "password", "passwd", "secret", "token", "api_key", "apikey", "authorization", "cookie",
    "private_key", "credential", "card_number", "cvv", "iban", "ssn",
)  # fmt: skip
"""Arguments with one of these in their names are not shown, however case, `-`, `_` and blanks join the words."""
MASK: Final = "***"
_JOINTS: Final = str.maketrans("", "", "-_ ")
PREVIEW: Final = 300
LONGEST: Final = 20_000
_LINES: Final = 200
_DEPTH: Final = 30


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job in a list."""

    mark: str
    place: str
    jid: str
    job: str
    queue: str
    args: str
    state: str
    at: datetime | None
    """When it is due, or died."""
    since: datetime | None
    """When it came to its queue, or was pushed."""
    error: str
    failures: int
    tags: Sequence[str] = ()
    malformed: bool = False


@dataclass(frozen=True, slots=True)
class WorkRow:
    """A job that runs."""

    jid: str
    job: str
    queue: str
    args: str
    identity: str
    thread: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class JobView:
    """One job, whole, as far as it may be seen."""

    row: JobRow
    created_at: datetime | None
    enqueued_at: datetime | None
    failed_at: datetime | None
    retried_at: datetime | None
    error_class: str
    error_message: str
    backtrace: Sequence[str]
    args: str
    command: str
    """Pushes such a job again; empty where its arguments are masked, unwrapped or too long to be shown."""
    unique: str
    """The digest of its key; empty without a lock."""
    foreign: bool
    original: str
    """Of bytes that are no job: these, as far as they are text."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Everything else that travels with it."""


@dataclass(frozen=True, slots=True)
class Shower:
    """Shows jobs, with the values of some names masked. Bytes that are no job are shown as they are."""

    redact: Sequence[str] = REDACTED

    def __post_init__(self) -> None:
        object.__setattr__(self, "redact", tuple(map(_folded, self.redact)))

    def row(self, marked: Marked) -> JobRow:
        """Return a job as a list shows it."""
        job = marked.job
        count = job.retry_count
        return JobRow(
            mark=str(marked.mark),
            place=marked.place,
            jid=job.jid[:64],
            job=cut(job.display_class or "(no job)", 200),
            queue=cut(job.queue, 128),
            args=cut(
                self.args(job) if job.fields and not job.malformed else _text(job.original), PREVIEW
            ),
            state=job.location.state.value,
            at=job.at,
            since=job.enqueued_at or job.created_at,
            error=cut(": ".join(filter(None, (job.error_class, job.error_message))), PREVIEW),
            failures=0 if count is None else count + 1,
            tags=[cut(tag, 50) for tag in job.tags[:10]],
            malformed=job.malformed,
        )

    def work(self, work: Work) -> WorkRow:
        """Return a job that runs."""
        job = work.job
        args = cut(self.args(job), PREVIEW)
        name = cut(job.display_class, 200)
        return WorkRow(job.jid[:64], name, job.queue, args, work.identity, work.thread, work.since)

    def whole(self, marked: Marked) -> JobView:
        """Return everything that may be seen of a job."""
        job = marked.job
        args = self.args(job)
        known = {
            "args",
            "error_backtrace",
            "error_message",
            "error_class",
            "class",
            "jid",
            "queue",
            "raw",
        }
        rest = {name: value for name, value in job.fields.items() if name not in known}
        return JobView(
            row=self.row(marked),
            created_at=job.created_at,
            enqueued_at=job.enqueued_at,
            failed_at=job.failed_at,
            retried_at=job.retried_at,
            error_class=cut(job.error_class, 300),
            error_message=cut(job.error_message, LONGEST),
            backtrace=[cut(line, 500) for line in job.error_backtrace[:_LINES]],
            args=cut(args, LONGEST),
            command=self._command(job),
            unique=job.unique.digest if job.unique else "",
            foreign=job.foreign,
            original=cut(_text(job.original), LONGEST) if job.malformed else "",
            fields={cut(name, 100): cut(_json(self._masked({name: value}, 0)[name]), 1_000) for name, value in
                    list(rest.items())[:60]},
        )  # fmt: skip

    def args(self, job: JobRecord) -> str:
        """Return the arguments as JSON, masked."""
        return _json(self._named(job))

    def _named(self, job: JobRecord) -> list[Any]:
        """Return the arguments; where the class is known here, masked by the names of its parameters too."""
        args = list(job.display_args)
        definition = registry.find(job.class_name)
        names = [
            each.name for each in getattr(definition and definition.arguments, "parameters", ())
        ]
        names += [""] * (len(args) - len(names))
        return [
            MASK if self.hides(name) else self._masked(value, 0)
            for name, value in zip(names, args, strict=False)
        ]

    def _masked(self, value: Any, depth: int) -> Any:
        if depth > _DEPTH:
            return "…"
        if isinstance(value, dict):
            return {
                name: MASK if self.hides(str(name)) else self._masked(each, depth + 1)
                for name, each in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._masked(each, depth + 1) for each in value]
        return value

    def hides(self, name: str) -> bool:
        """Whether the values of this name are not shown."""
        folded = _folded(name)
        return any(each in folded for each in self.redact)

    def _command(self, job: JobRecord) -> str:
        """Return what pushes such a job; empty where what may be shown would push another one."""
        shown = self._named(job)
        if job.malformed or not job.class_name or shown != list(job.args):
            return ""
        words = [shlex.quote(_json(each)) for each in shown]
        text = " ".join(["qik enqueue", shlex.quote(job.class_name), "--", *words])
        return text if text == cut(text, LONGEST) else ""


def _folded(name: str) -> str:
    """Return a name as all its spellings have it: cardNumber, card_number, Card-Number."""
    return name.casefold().translate(_JOINTS)


def cut(text: str, longest: int) -> str:
    """Return a text that is not longer, and has no half characters."""
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return text.encode("utf-8", "replace").decode()


def span(seconds: float) -> str:
    """Return a duration as people say it: 0.2 s, 45 s, 3 min, 5 h, 2 d."""
    if seconds < 10:  # noqa: PLR2004  below, tenths matter
        return f"{seconds:.1f} s"
    for size, unit, most in ((1, "s", 120), (60, "min", 7_200), (3_600, "h", 172_800)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:,.0f} d"


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode("utf-8", "replace")
    except (
        ValueError,
        TypeError,
        OverflowError,
    ):  # half a character, or what only another program writes
        return repr(value)


def _text(raw: bytes) -> str:
    return raw[: LONGEST + 1].decode("utf-8", "replace")
