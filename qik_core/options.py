"""The options of a job and of a call: what each may be, and what to write instead.

Pure checks. A duration is a timedelta or a number of seconds, a moment an aware datetime or epoch seconds.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypedDict

from qik_core.errors import ArgumentError, DefinitionError, QikError
from qik_core.payload import Until
from qik_core.store import keys
from qik_core.switches import OnUnknown

DECADE: Final = 10 * 365 * 86_400
MOST_RETRIES: Final = 1_000
_FIRST_MOMENT: Final = (
    1_000_000_000  # 2001: anything earlier is a delay that was mistaken for a moment
)
_LAST_MOMENT: Final = 9_000_000_000  # 2255: expiries are ten digits in a lock
_MILLISECONDS: Final = 100_000_000_000
_JID: Final = re.compile(r"[\w-]{1,64}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z_][\w.:]{0,199}", re.ASCII)


class Options(TypedDict, total=False):
    """The class keywords of a job. The names are Sidekiq's."""

    queue: str
    retry: bool | int
    retry_for: timedelta | float
    retry_queue: str
    retry_on: tuple[type[BaseException], ...]
    discard_on: tuple[type[BaseException], ...]
    backtrace: bool | int
    dead: bool
    tags: list[str]
    unique_for: timedelta | float
    unique_until: Until
    unique_args: Iterable[str]
    expires_in: timedelta | float
    timeout: timedelta | float
    log_level: str
    reconciled: Literal[False]
    reason: str
    on_unknown: Literal["run", "stop"]
    tenant: str
    name: str
    aliases: Iterable[str]


class SetOptions(TypedDict, total=False):
    """What `set()` may change for one call."""

    queue: str
    retry: bool | int
    retry_for: timedelta | float
    retry_queue: str
    backtrace: bool | int
    dead: bool
    tags: list[str]
    unique_for: timedelta | float | Literal[False]
    unique_until: Until
    expires_in: timedelta | float
    log_level: str
    jid: str
    wait: timedelta | float
    wait_until: datetime | float
    jitter: timedelta | float


LEVELS: Final = ("debug", "info", "warning", "error", "critical")
JOB_OPTIONS: Final = frozenset(Options.__annotations__)
CALL_OPTIONS: Final = frozenset(SetOptions.__annotations__)


def known(options: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    """Refuse an option that does not exist.

    Raises:
        DefinitionError: with the nearest name that does.
    """
    names = sorted(names)
    for name in options:
        if name not in names:
            raise DefinitionError(
                f"{where}: there is no option {name!r}{did_you_mean(name, names)}"
            )


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; there are: {', '.join(names)}" if names else "; there are none"


def job_name(value: object, where: str) -> str:
    """Return a job's name on the wire: a constant path, as in Ruby.

    Raises:
        DefinitionError: not a name.
    """
    if type(value) is not str or _NAME.fullmatch(value) is None:
        raise DefinitionError(
            f"{where}: {value!r:.80} cannot be a job's name: use up to 200 of A-Z a-z 0-9 _ . : with a letter first"
        )
    return value


def is_job_name(value: str) -> bool:
    """Whether this can be a job's name on the wire."""
    return _NAME.fullmatch(value) is not None


def on_unknown(value: object, where: str) -> OnUnknown:
    """Return what a class does while its kill switches are configured and were never read.

    Raises:
        DefinitionError: neither run nor stop.
    """
    if type(value) is str and value in list(OnUnknown):
        return OnUnknown(value)
    raise DefinitionError(f"{where}: on_unknown is {value!r:.80}: use 'run' or 'stop'")


def tenant(value: object, parameters: Sequence[str], where: str) -> int:
    """Return which argument says whose a job is, for kill switches of one tenant.

    Raises:
        DefinitionError: `perform` has no such parameter.
    """
    if type(value) is str and value in parameters:
        return parameters.index(value)
    near = did_you_mean(value, parameters) if type(value) is str else ""
    raise DefinitionError(
        f"{where}: tenant is {value!r:.80}, which perform does not take: name one of its parameters{near}"
    )


def names(value: object, option: str, where: str) -> tuple[str, ...]:
    """Return a list of texts given as an option."""
    if isinstance(value, (list, tuple, set, frozenset)) and all(
        type(each) is str for each in value
    ):
        return tuple(sorted(value) if isinstance(value, (set, frozenset)) else value)
    raise DefinitionError(
        f"{where}: {option} is {value!r:.80}: use a list of str, as in {option}=['a']"
    )


def flag(value: object, option: str, where: str) -> bool:
    """Return an option that is True or False."""
    if type(value) is not bool:
        raise DefinitionError(f"{where}: {option} is {value!r:.80}: use True or False")
    return value


def retry(value: object, where: str) -> bool | int:
    """Return how often a failed job runs again: True (25 times), False (never, and not kept as dead), or a number."""
    return _count(value, "retry", where, MOST_RETRIES)


def retry_for(value: object, where: str) -> int:
    """Return for how many seconds after its first failure a job is retried, rounded up.

    Raises:
        DefinitionError: not a duration from 1 second to 10 years.
    """
    seconds = duration(value, f"{where}: retry_for", DefinitionError)
    if not 0 < seconds <= DECADE:
        raise DefinitionError(f"{where}: retry_for is {seconds:g} s: use 1 second to 10 years")
    return math.ceil(seconds)


def errors(value: object, option: str, where: str) -> tuple[type[BaseException], ...]:
    """Return the exception classes given as an option.

    Raises:
        DefinitionError: something else.
    """
    classes = value if isinstance(value, (tuple, list)) else (value,)
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise DefinitionError(
                f"{where}: {option} has {each!r:.80}: use exception classes, as in {option}=(TimeoutError,)"
            )
    return tuple(classes)


def timeout(value: object, where: str) -> float:
    """Return after how many seconds a run is interrupted.

    Raises:
        DefinitionError: not a duration of more than 0 and up to 10 years.
    """
    seconds = duration(value, f"{where}: timeout", DefinitionError)
    if seconds <= 0:
        raise DefinitionError(f"{where}: timeout is {seconds:g} s: use more than 0")
    return seconds


def log_level(value: object, where: str) -> str:
    """Return from which level the lines about a job's own runs are written.

    Raises:
        DefinitionError: not debug, info, warning, error or critical.
    """
    if type(value) is not str or value not in LEVELS:
        near = did_you_mean(value, LEVELS) if type(value) is str else f": use {', '.join(LEVELS)}"
        raise DefinitionError(f"{where}: log_level is {value!r:.80}{near}")
    return value


def exemption(given: Mapping[str, Any], where: str) -> str | None:
    """Return why no reconciler tells this job again (`reconciled=False, reason="…"`), None if nothing is said.

    Raises:
        DefinitionError: one without the other, or something else than False and a text.
    """
    if "reconciled" not in given and "reason" not in given:
        return None
    reason = given.get("reason")
    if given.get("reconciled") is not False or type(reason) is not str or not reason.strip():
        raise DefinitionError(
            f"{where}: reconciled is {given.get('reconciled')!r:.80} and reason {reason!r:.80}: a job that no "
            "reconciler tells again says why, as in reconciled=False, reason='cache warm: a loss is harmless'"
        )
    return reason.strip()


def backtrace(value: object, where: str) -> bool | int:
    """Return whether a failed job keeps its traceback, or how many of its lines."""
    return _count(value, "backtrace", where, 10_000)


def _count(value: object, option: str, where: str, most: int) -> bool | int:
    if type(value) is bool:
        return value
    if type(value) is int and 0 <= value <= most:
        return value
    raise DefinitionError(f"{where}: {option} is {value!r:.80}: use True, False or 0 to {most:,}")


def queue(value: object, where: str) -> str:
    """Return a queue's name.

    Raises:
        DefinitionError: not 1 to 128 of A-Z a-z 0-9 _ . : -
    """
    try:
        return keys.check_queue(value)
    except DefinitionError as error:
        raise DefinitionError(f"{where}: {error}") from None


def unique_for(value: object, where: str) -> int:
    """Return the window of a unique job in whole seconds, rounded up.

    Raises:
        DefinitionError: not a duration from 1 second to 10 years.
    """
    seconds = duration(value, f"{where}: unique_for", DefinitionError)
    if not 0 < seconds <= DECADE:
        raise DefinitionError(f"{where}: unique_for is {seconds:g} s: use 1 second to 10 years")
    return math.ceil(seconds)


def unique_until(value: object, where: str) -> Until:
    """Return when a lock ends: at the job's success, or at its start."""
    allowed: dict[object, Until] = {"success": "success", "start": "start"}
    if type(value) is not str or value not in allowed:
        raise DefinitionError(f"{where}: unique_until is {value!r:.80}: use 'success' or 'start'")
    return allowed[value]


def expires_in(value: object, where: str) -> float:
    """Return after how many seconds a job that was not started is dropped."""
    seconds = duration(value, f"{where}: expires_in", DefinitionError)
    if not 0 < seconds <= DECADE:
        raise DefinitionError(
            f"{where}: expires_in is {seconds:g} s: use more than 0 and up to 10 years"
        )
    return seconds


def is_jid(value: object) -> bool:
    """Whether this can be a job's id."""
    return type(value) is str and _JID.fullmatch(value) is not None


def jid(value: object, where: str) -> str:
    """Return a job id given by the caller.

    Raises:
        ArgumentError: not 1 to 64 of A-Z a-z 0-9 _ -
    """
    if type(value) is not str or not is_jid(value):
        raise ArgumentError(
            f"{where}: jid {value!r:.80} cannot be an id: use 1 to 64 of A-Z a-z 0-9 _ -"
        )
    return value


def duration(value: object, what: str, error: Callable[[str], QikError] = ArgumentError) -> float:
    """Return a duration in seconds: 0 to 10 years.

    Raises:
        ArgumentError: or what `error` makes: not a duration, negative, not finite, or beyond 10 years.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif type(value) in (int, float):
        seconds = math.inf if abs(value) > _MILLISECONDS else float(value)  # type: ignore[arg-type]
    else:
        raise error(f"{what} is a {type(value).__name__}: use a timedelta or a number of seconds")
    if not 0 <= seconds <= DECADE:
        raise error(f"{what} is {seconds:g} s: use 0 seconds to 10 years")
    return seconds


def moment(value: object, what: str) -> float:
    """Return a moment in epoch seconds.

    Raises:
        ArgumentError: not a moment; naive; before 2001 (a delay?) or after 2255 (milliseconds?).
    """
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ArgumentError(
                f"{what} is a naive datetime: give it a time zone, as in datetime.now(UTC)"
            )
        seconds = value.timestamp()
    elif type(value) in (int, float):
        seconds = _number(value, what)
    else:
        raise ArgumentError(
            f"{what} is a {type(value).__name__}: use an aware datetime or epoch seconds"
        )
    if not _FIRST_MOMENT <= seconds <= _LAST_MOMENT:
        raise ArgumentError(
            f"{what} is {seconds:.15g}, which is outside of 2001 to 2255: use epoch seconds; "
            "for a delay, perform_in or set(wait=…)"
        )
    return seconds


def _number(value: Any, what: str) -> float:
    if type(value) is float and not math.isfinite(value):
        raise ArgumentError(f"{what} is {value}: use an aware datetime or epoch seconds")
    if abs(value) >= _MILLISECONDS:
        raise ArgumentError(f"{what} looks like milliseconds: use epoch seconds")
    return float(value)
