"""What becomes of a job that did not end well. Pure: the clock and the dice are arguments."""

from __future__ import annotations

import base64
import traceback
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from qik_core.payload import MALFORMED, Payload

MESSAGE: Final = 10_000
"""Characters of an error message that are kept."""
MANY: Final = 25
"""Retries that `retry=True` means, as in Sidekiq."""
DEATHS: Final = "deaths"
"""The field that counts the processes which died while they ran the job."""
_ENOUGH: Final = 3
_UNKNOWN_FIRST: Final = 30.0
_UNKNOWN_LONGEST: Final = 3600.0
_UNKNOWN_FOR: Final = 86_400.0
_COUNTABLE: Final = 64  # 2 to this power is still a number of seconds
_STALE: Final = ("enqueued_at",)
_FAILURE: Final = (
    "retry_count", "failed_at", "retried_at", "error_class", "error_message", "error_backtrace",
    "unknown_count", "unknown_at", DEATHS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Again:
    """Run it again after so many seconds."""

    delay: float

    def __str__(self) -> str:
        return f"retry in {self.delay:.1f} s"


@dataclass(frozen=True, slots=True)
class Bury:
    """It is dead, and kept for people to look at."""

    terminal: bool = field(default=False, compare=False)
    """By the job's own word, it can never succeed."""

    def __str__(self) -> str:
        return "dead"


@dataclass(frozen=True, slots=True)
class Drop:
    """It is over, and not kept."""

    counter: str = "dropped"
    """Which counter it counts into: dropped (`retry=False`, or `dead=False`) or discarded."""
    terminal: bool = field(default=False, compare=False)
    """By the job's own word, it can never succeed."""

    def __str__(self) -> str:
        return self.counter


Decision: TypeAlias = Again | Bury | Drop


def decide(
    count: int, limit: int, *, dead: bool = True, dice: float, wait: float | None = None
) -> Decision:
    """Say what becomes of a job that has just failed.

    `count` failures came before this one; `limit` retries are allowed, -1 for a job that must not even be kept. The wait
    is Sidekiq's (`sidekiq/job_retry.rb`): count⁴ + 15 seconds, or `wait`, and up to 10 × (count + 1) more by `dice` in
    [0, 1), so that jobs which failed together do not come back together.
    """
    if limit < 0:
        return Drop()
    if count >= limit:
        return Bury() if dead else Drop()
    base = count**4 + 15 if wait is None else wait
    return Again(base + int(10 * (count + 1) * dice))


def decide_unknown(payload: Payload, now: float) -> Decision:
    """Say what becomes of a job whose class, or whose number of arguments, this process does not know.

    A rolling deploy explains it: again after 30 s, growing to 1 h, for 24 h; then dead.
    """
    if now - _unknown_since(payload, now) > _UNKNOWN_FOR:
        return Bury()
    count = payload.get("unknown_count")
    tries = count if type(count) is int and 0 <= count < _COUNTABLE else 0
    return Again(min(_UNKNOWN_FIRST * 2.0**tries, _UNKNOWN_LONGEST))


def limit_of(payload: Payload, default: bool | int, many: int = MANY) -> int:  # noqa: FBT001 - the option's own form
    """Return how many retries a payload asks for, by its class's option where it says nothing that can be.

    `many` is what True means; -1 stands for False: none, and not even kept as dead.
    """
    retry = payload.get("retry")
    if type(retry) is not bool and not (type(retry) is int and retry >= 0):
        retry = default
    if retry is True:
        return many
    return -1 if retry is False else retry


def failed_at(payload: Payload, now: float) -> float:
    """Return when a job failed first, in epoch seconds; `now` for one that has not."""
    at = payload.get("failed_at")
    if type(at) is int:
        return at / 1000  # Sidekiq 8's form
    return at if type(at) is float else now


def is_late(payload: Payload, now: float) -> bool:
    """Whether a job has waited past its `expires_in`; `now` in epoch seconds."""
    expiry = payload.get("expiry")
    return isinstance(expiry, (int, float)) and expiry < now


def deaths_of(payload: Payload) -> int:
    """Return under how many processes' deaths a job is known to have run."""
    deaths = payload.get(DEATHS)
    return deaths if type(deaths) is int and deaths > 0 else 0


def is_condemned(deaths: int) -> bool:
    """Whether so many deaths are enough to bury a job without another run."""
    return deaths >= _ENOUGH


def failures_of(payload: Payload) -> int:
    """Return how often a job has failed before: Sidekiq writes 0 for the first failure."""
    count = payload.get("retry_count")
    return count + 1 if type(count) is int and count >= 0 else 0


def failed(
    payload: Payload, error: BaseException, now: float, *, milliseconds: bool = False
) -> Payload:
    """Return the payload as it stands in the retry or dead set after this failure: Sidekiq's fields."""
    count = failures_of(payload)
    stamp = int(now * 1000) if milliseconds else now
    changes: dict[str, Any] = {
        "retry_count": count,
        "failed_at" if count == 0 else "retried_at": stamp,
        "error_class": class_of(error),
        "error_message": message_of(error),
    }
    lines = backtrace_of(error, payload.get("backtrace"))
    if lines:
        changes["error_backtrace"] = lines
    return _without(payload, _STALE).replace(**changes)


def unknown(payload: Payload, reason: str, now: float) -> Payload:
    """Return the payload of a job that this process does not know, with how long that has been so."""
    count = payload.get("unknown_count")
    return _without(payload, _STALE).replace(
        unknown_count=count + 1 if type(count) is int else 1,
        unknown_at=_unknown_since(payload, now),
        error_class="UnknownJob",
        error_message=reason,
    )


def waiting(payload: Payload) -> Payload:
    """Return the payload as if it had never failed, for a set of jobs with a time."""
    return _without(payload, (*_STALE, *_FAILURE))


def fresh(payload: Payload) -> Payload:
    """Return the payload as if it had never failed, for one more run after a success."""
    return _without(payload, _FAILURE)


def set_aside(raw: bytes, queue: str, reason: str, jid: str, now: float) -> Payload:
    """Return a job-shaped envelope around bytes that are no job, for the dead set: Sidekiq's pages can show it."""
    return Payload(
        {
            "qik": "-",
            "jid": jid,
            "queue": queue,
            "class": MALFORMED,
            "args": [],
            "retry": False,
            "failed_at": now,
            "error_class": "MalformedPayload",
            "error_message": reason,
            "raw": base64.b64encode(raw).decode(),
        }
    )


def class_of(error: BaseException) -> str:
    """Return the name of an error's class, with its module unless that is Python's own."""
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def message_of(error: BaseException) -> str:
    """Return the message of an error, cut, and safe to write: an error may fail to print itself."""
    try:
        text = str(error)
    except BaseException as second:  # noqa: BLE001 - user code, and a thread must not end here
        text = f"(its message cannot be printed: {type(second).__name__})"
    return text[:MESSAGE].encode("utf-8", "replace").decode()


def backtrace_of(error: BaseException, wanted: Any) -> str:
    """Return the backtrace as Sidekiq stores it: base64 of deflated JSON lines; `wanted` is True or a number of lines."""
    if wanted is not True and not (type(wanted) is int and wanted > 0):
        return ""
    lines = [
        line.encode("utf-8", "replace").decode()
        for line in traceback.format_tb(error.__traceback__)
    ]
    innermost = [line.strip() for line in reversed(lines)]
    kept = innermost if wanted is True else innermost[:wanted]
    return base64.b64encode(zlib.compress(msgspec.json.encode(kept))).decode()


def _unknown_since(payload: Payload, now: float) -> float:
    since = payload.get("unknown_at")
    return since if type(since) in (int, float) else now


def _without(payload: Payload, names: tuple[str, ...]) -> Payload:
    fields: Mapping[str, Any] = payload.fields
    return Payload({name: value for name, value in fields.items() if name not in names})
