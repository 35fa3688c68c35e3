"""What a test says about jobs: `assert_enqueued(Charge, 7, queue="billing")`. A failure lists what is there instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from qik_core import client, options
from qik_core.definition import Definition
from qik_core.errors import ArgumentError
from qik_core.shapes import Delay, Moment
from qik_core.testing.modes import active, listed
from qik_core.testing.running import EnqueuedJob

Time: TypeAlias = "timedelta | Moment | Within"
_EXACT: Final = 0.001  # seconds: what is lost on the way through JSON
_TRIP: Final = 1.0  # seconds that a push may be on its way: its delay begins at the other end


@dataclass(frozen=True, slots=True)
class Within:
    """A span of time, both ends included: two moments in epoch seconds, or two delays in seconds from the push."""

    low: float
    high: float
    is_delay: bool

    def holds(self, job: EnqueuedJob) -> bool:
        """Tell whether a job is due within this span; one on its queue was due when it was pushed."""
        created = _created(job)
        at = created if job.at is None else job.at.timestamp()
        value = at - created if self.is_delay else at
        late = _TRIP if self.is_delay and job.at is not None else 0.0
        return self.low - _EXACT <= value <= self.high + _EXACT + late

    def __str__(self) -> str:
        """Return it as a failure says it."""
        low, high = (
            f"{each:g} s after its push"
            if self.is_delay
            else str(datetime.fromtimestamp(each, UTC))
            for each in (self.low, self.high)
        )
        return low if self.high - self.low <= _EXACT else f"from {low} to {high}"


def within(low: timedelta | Moment, high: timedelta | Moment) -> Within:
    """Return a span for `at=`: two delays from the push (timedelta), or two moments (aware datetime, epoch seconds).

    Raises:
        ArgumentError: one of each, or the wrong way round.
    """
    (start, is_delay), (end, other) = _number(low), _number(high)
    if is_delay is not other:
        raise ArgumentError(
            "within: one end is a delay and the other a moment: give two of one kind"
        )
    if start > end:
        raise ArgumentError(f"within: {low!r} is after {high!r}: give the earlier one first")
    return Within(start, end, is_delay)


def approx(time: timedelta | Moment, tolerance: Delay = 1.0) -> Within:
    """Return the span for `at=` around a delay or a moment, by default a second to each side."""
    middle, is_delay = _number(time)
    slack = options.duration(tolerance, "approx: the tolerance")
    return Within(middle - slack, middle + slack, is_delay)


def assert_enqueued(
    job: object,
    *args: Any,
    queue: str | None = None,
    at: Time | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> EnqueuedJob:
    """Assert that a job waits (with `inline()`: was performed), and return the first one.

    Without arguments any arguments do; else all must be equal, defaults included, and may be `unittest.mock.ANY` and its
    like; `kwargs` are those given by keyword. `at`: a timedelta from the push, a moment, `within(…)` or `approx(…)`;
    `timedelta(0)`: not scheduled.

    Raises:
        AssertionError: it is not there; lists what is.
        ArgumentError: the arguments do not fit `perform`.
        MisusedMode: no mode is on.
    """
    __tracebackhide__ = True
    wanted = _Wanted.of(job, args, kwargs or {}, queue, at)
    jobs = active().jobs
    found = [each for each in jobs if not wanted.differences(each)]
    if not found:
        raise AssertionError(
            f"{wanted} is not enqueued. What is enqueued:\n{_diffed(wanted, jobs)}"
        )
    return found[0]


def assert_not_enqueued(
    job: object,
    *args: Any,
    queue: str | None = None,
    at: Time | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Assert that no such job waits (with `inline()`: none was performed). The parameters are those of `assert_enqueued`.

    Raises:
        AssertionError: there is one.
        ArgumentError: the arguments do not fit `perform`.
        MisusedMode: no mode is on.
    """
    __tracebackhide__ = True
    wanted = _Wanted.of(job, args, kwargs or {}, queue, at)
    found = [each for each in active().jobs if not wanted.differences(each)]
    if found:
        raise AssertionError(f"{wanted} is enqueued, and must not be:\n{listed(found)}")


def assert_enqueued_count(count: int, job: object = None, *, queue: str | None = None) -> None:
    """Assert how many jobs wait (with `inline()`: were performed), of one class or on one queue if that is said.

    Raises:
        AssertionError: it is another number; lists them.
        MisusedMode: no mode is on.
    """
    __tracebackhide__ = True
    definition = None if job is None else client.definition_of(job)
    jobs = active().jobs
    found = [
        each
        for each in jobs
        if (definition is None or each.name == definition.name) and queue in (None, each.queue)
    ]
    if len(found) != count:
        what = "" if definition is None else f" of {definition.name}"
        where = "" if queue is None else f" on {queue}"
        raise AssertionError(
            f"{len(found):,} jobs{what}{where} are enqueued, not {count:,}. What is enqueued:\n{listed(jobs)}"
        )


def drain(job: object = None) -> int:
    """Perform the jobs of the mode that is on until none is left; see its own `drain`.

    Raises:
        MisusedMode: no mode is on.
    """
    return active().drain(job)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What an assertion asks for."""

    definition: Definition
    args: Sequence[Any] | None
    queue: str | None
    at: Within | None

    @classmethod
    def of(
        cls,
        job: object,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        queue: str | None,
        at: Time | None,
    ) -> _Wanted:
        definition = client.definition_of(job)
        bound = definition.arguments.bind(args, kwargs) if args or kwargs else None
        if at is None or isinstance(at, Within):
            return cls(definition, bound, queue, at)
        time, is_delay = _number(at)
        return cls(definition, bound, queue, Within(time, time, is_delay))

    def differences(self, job: EnqueuedJob) -> list[str]:
        """Return in what a job is not the one, a phrase each."""
        if job.name != self.definition.name:
            return ["another class"]
        said = []
        if self.args is not None:
            said += _unequal(self.args, job.args)
        if self.queue not in (None, job.queue):
            said.append(f"queue is {job.queue!r}, expected {self.queue!r}")
        if self.at is not None and not self.at.holds(job):
            said.append(f"due {_due(job)}, expected {self.at}")
        return said

    def __str__(self) -> str:
        args = "…" if self.args is None else ", ".join(map(repr, self.args))
        queue = "" if self.queue is None else f" on {self.queue}"
        return (
            f"{self.definition.name}({args}){queue}{'' if self.at is None else f', due {self.at}'}"
        )


def _unequal(expected: Sequence[Any], actual: Sequence[Any]) -> list[str]:
    if len(expected) != len(actual):
        return [f"{len(actual)} arguments, expected {len(expected)}"]
    return [
        f"args[{place}] is {there!r}, expected {want!r}"
        for place, (want, there) in enumerate(zip(expected, actual, strict=True))
        if not _is_equal(want, there)
    ]


def _is_equal(want: Any, there: Any) -> bool:
    """Tell whether an argument is the wanted one: 1 is not True, which JSON tells apart; ANY is whatever is there."""
    if isinstance(want, (bool, int, float)) and type(want) is not type(there):
        return bool(want == there) and bool not in (type(want), type(there))
    return bool(want == there)


def _diffed(wanted: _Wanted, jobs: Sequence[EnqueuedJob]) -> str:
    """Return the jobs, those of the wanted class first, the nearest first, each with what is different."""
    rated = [(wanted.differences(each), each) for each in jobs]
    same = sorted(
        (pair for pair in rated if pair[1].name == wanted.definition.name),
        key=lambda pair: len(pair[0]),
    )
    others = [each for _, each in rated if each.name != wanted.definition.name]
    return listed([*(f"{each}: {'; '.join(said)}" for said, each in same), *others])


def _number(time: timedelta | Moment) -> tuple[float, bool]:
    """Return a delay in seconds and True, or a moment in epoch seconds and False."""
    if isinstance(time, timedelta):
        return time.total_seconds(), True
    return options.moment(time, "at"), False


def _created(job: EnqueuedJob) -> float:
    created: float = job.payload.get("created_at", 0.0)
    return created / 1000 if type(created) is int else created


def _due(job: EnqueuedJob) -> str:
    if job.at is None:
        return "at once"
    return f"{job.at.timestamp() - _created(job):g} s after its push, {job.at.isoformat(' ')}"
