"""The calls that push a job, or run it here, typed from its `perform`: in plain code, in asyncio code, after a commit.

`shapes` says how the types come about.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, NamedTuple, TypeVar, Unpack

from qik_core import aio, bulk, client, commits, inline, options
from qik_core.arguments import RowError
from qik_core.commits import Deferred
from qik_core.definition import Definition
from qik_core.errors import ArgumentError
from qik_core.options import SetOptions
from qik_core.payload import Payload, header
from qik_core.plan import PLAIN, Plan
from qik_core.results import BulkResult, Push
from qik_core.shapes import BATCH, BulkOf, Delay, Moment, Moments, P, T

R = TypeVar("R")


class Ready(NamedTuple):
    """What is to be pushed: the job with the options of this call, and when."""

    definition: Definition
    plan: Plan


class Calls:
    """A job class with the options of one call."""

    __slots__ = ("_changes", "_definition")

    def __init__(self, definition: Definition, changes: Mapping[str, Any] | None = None) -> None:
        self._definition = definition
        self._changes = changes or {}
        if changes:
            client.resolve(definition, changes)  # what cannot work fails where it is written

    def _ready(self) -> Ready:
        if not self._changes:
            return Ready(self._definition, PLAIN)
        return Ready(*client.resolve(self._definition, self._changes))

    def _in(self, delay: object) -> Ready:
        definition, plan = self._ready()
        where = f"{definition.name}.perform_in"
        return Ready(
            definition, plan.at(where, delay=options.duration(delay, f"{where}: the delay"))
        )

    def _at(self, moment: object) -> Ready:
        definition, plan = self._ready()
        where = f"{definition.name}.perform_at"
        return Ready(definition, plan.at(where, due=options.moment(moment, f"{where}: the moment")))

    def _spread(self, jitter: Delay | None, at: Moments | None) -> Ready:
        where = f"{self._definition.name}.perform_bulk"
        each = at if isinstance(at, Sequence) else None
        given = {"jitter": jitter, "wait_until": None if each is not None else at}
        given = {name: value for name, value in given.items() if value is not None}
        if doubled := given.keys() & self._changes.keys():
            raise ArgumentError(
                f"{where}: {', '.join(sorted(doubled))} was set already: give it once"
            )
        definition, plan = client.resolve(self._definition, {**self._changes, **given})
        return Ready(definition, plan if each is None else plan.each_at(where, each))


class Pusher(Calls, Generic[P, T]):
    """Pushes one job class with the options of one call.

    Every method raises ArgumentError before anything is written, and NotEnqueued or OutcomeUnknown within 3 seconds
    when Redis does not answer.
    """

    __slots__ = ()

    perform_bulk = BulkOf[BulkResult]()
    """Push a job per row and return a code per row. `rows` is taken lazily, a batch at a time.

    `at` is a moment for all rows, or a sequence with one for each. `jitter` spreads the jobs evenly over a duration, from
    now or from `at`. A batch is checked whole before it is written; an error about an item names its index, and the
    batches before it stay written.
    """

    def perform_async(self, *args: P.args, **kwargs: P.kwargs) -> Push:
        """Push the job, to run as soon as a worker is free."""
        _warn("perform_async")
        return self._push(self._ready(), args, kwargs)

    def perform_in(self, delay: Delay, /, *args: P.args, **kwargs: P.kwargs) -> Push:
        """Push the job, to run after a delay: a timedelta or seconds. Zero is now."""
        _warn("perform_in")
        return self._push(self._in(delay), args, kwargs)

    def perform_at(self, moment: Moment, /, *args: P.args, **kwargs: P.kwargs) -> Push:
        """Push the job, to run at a moment: an aware datetime or epoch seconds. The past is now."""
        _warn("perform_at")
        return self._push(self._at(moment), args, kwargs)

    def perform_inline(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the job here and now, through all middleware, and return what `perform` returns. See `qik_core.inline`."""
        definition, plan = self._ready()
        answer: T = inline.perform(definition, definition.arguments.bind(args, kwargs), plan)
        return answer

    def set(self, **changes: Unpack[SetOptions]) -> Pusher[P, T]:
        """Return a pusher with these options besides those set before."""
        return Pusher(self._definition, {**self._changes, **changes})

    @property
    def aio(self) -> AsyncPusher[P, T]:
        """The same calls, awaited."""
        return AsyncPusher(self._definition, self._changes)

    def after_commit(self, session: object) -> CommitPusher[P]:
        """The same calls, carried out after the commit of a Session, an AsyncSession or a scoped_session."""
        return CommitPusher(self._definition, self._changes, session)

    def _push(self, ready: Ready, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Push:
        definition, plan = ready
        return client.current().perform(definition, definition.arguments.bind(args, kwargs), plan)

    def _bulk(
        self,
        rows: Iterable[Sequence[Any]],
        *,
        batch_size: int = BATCH,
        jitter: Delay | None = None,
        at: Moments | None = None,
    ) -> BulkResult:
        _warn("perform_bulk")
        definition, plan = self._spread(jitter, at)
        return client.current().bulk(definition, rows, plan, batch_size)


class AsyncPusher(Calls, Generic[P, T]):
    """The calls of `Pusher` for asyncio code: they run on a few threads of their own and never block the event loop.

    A cancelled call that had not begun is not made; one that had may have pushed its job.
    """

    __slots__ = ()

    perform_bulk = BulkOf[Coroutine[Any, Any, BulkResult]]()
    """Push a job per row, as `Pusher.perform_bulk`. `rows` is taken on another thread."""

    async def perform_async(self, *args: P.args, **kwargs: P.kwargs) -> Push:
        """Push the job, to run as soon as a worker is free."""
        return await aio.on_thread(self._sync().perform_async, *args, **kwargs)

    async def perform_in(self, delay: Delay, /, *args: P.args, **kwargs: P.kwargs) -> Push:
        """Push the job, to run after a delay: a timedelta or seconds."""
        return await aio.on_thread(self._sync().perform_in, delay, *args, **kwargs)

    async def perform_at(self, moment: Moment, /, *args: P.args, **kwargs: P.kwargs) -> Push:
        """Push the job, to run at a moment: an aware datetime or epoch seconds."""
        return await aio.on_thread(self._sync().perform_at, moment, *args, **kwargs)

    async def perform_inline(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the job here and now; an async `perform` on this event loop, all else on a thread."""
        definition, plan = self._ready()
        row = definition.arguments.bind(args, kwargs)
        answer: T = await inline.perform_on_loop(definition, row, plan)
        return answer

    def set(self, **changes: Unpack[SetOptions]) -> AsyncPusher[P, T]:
        """Return a pusher with these options besides those set before."""
        return AsyncPusher(self._definition, {**self._changes, **changes})

    def _sync(self) -> Pusher[P, T]:
        return Pusher(self._definition, self._changes)

    async def _bulk(self, rows: Iterable[Sequence[Any]], **given: Any) -> BulkResult:
        return await aio.on_thread(self._sync().perform_bulk, rows, **given)


class CommitPusher(Calls, Generic[P]):
    """The calls of `Pusher`, carried out after the outermost commit of a session's transaction, and never on a rollback.

    What cannot travel is refused at the call. A delay counts from the commit. No error of a push comes out of the
    commit: `Deferred.result()` raises it, error handlers are told, and it is counted as `edge_lost`.
    """

    __slots__ = ("_session",)

    perform_bulk = BulkOf[Deferred[BulkResult]]()
    """Push a job per row after the commit. `rows` is taken and checked whole at the call."""

    def __init__(self, definition: Definition, changes: Mapping[str, Any], session: object) -> None:
        super().__init__(definition, changes)
        self._session = session

    def perform_async(self, *args: P.args, **kwargs: P.kwargs) -> Deferred[Push]:
        """Push the job after the commit, to run as soon as a worker is free."""
        return self._one(self._ready(), args, kwargs)

    def perform_in(self, delay: Delay, /, *args: P.args, **kwargs: P.kwargs) -> Deferred[Push]:
        """Push the job after the commit, to run after a delay that counts from then."""
        return self._one(self._in(delay), args, kwargs)

    def perform_at(self, moment: Moment, /, *args: P.args, **kwargs: P.kwargs) -> Deferred[Push]:
        """Push the job after the commit, to run at a moment."""
        return self._one(self._at(moment), args, kwargs)

    def set(self, **changes: Unpack[SetOptions]) -> CommitPusher[P]:
        """Return a pusher with these options besides those set before."""
        return CommitPusher(self._definition, {**self._changes, **changes}, self._session)

    def _one(
        self, ready: Ready, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Deferred[Push]:
        definition, plan = ready
        row = definition.arguments.bind(args, kwargs)
        try:
            payloads = client.current().check(definition, [row], plan)
        except RowError as error:
            raise ArgumentError(error.message + _unflushed(row)) from None

        def send() -> Push:
            return client.current().perform(definition, next(_rows(definition, payloads)), plan)

        plan = _with_jids(plan, payloads)
        return self._defer(payloads, send)

    def _bulk(
        self,
        rows: Iterable[Sequence[Any]],
        *,
        batch_size: int = BATCH,
        jitter: Delay | None = None,
        at: Moments | None = None,
    ) -> Deferred[BulkResult]:
        definition, plan = self._spread(jitter, at)
        every = list(bulk.checked(rows, plan, definition.name))
        payloads: list[bytes] = []
        for batch in bulk.batches(every, batch_size, definition.name):
            part = plan.part(len(payloads), len(batch))
            try:
                payloads += client.current().check(definition, batch, part)
            except RowError as error:
                moved = error.moved(len(payloads))
                raise ArgumentError(str(moved) + _unflushed(every[moved.index])) from None
        plan = _with_jids(plan, payloads)
        return self._defer(
            payloads,
            lambda: client.current().bulk(
                definition, _rows(definition, payloads), plan, batch_size
            ),
        )

    def _defer(self, payloads: Sequence[bytes], send: Callable[[], R]) -> Deferred[R]:
        deferred = Deferred(self._definition.name, _jids(payloads), send)
        commits.adapter().defer(self._session, deferred)
        return deferred


def _rows(definition: Definition, payloads: Iterable[bytes]) -> Iterator[Sequence[Any]]:
    """Yield the arguments as they were at the call: what was given may have changed since."""
    for raw in payloads:
        yield definition.arguments.load(Payload.decode(raw).args)


def _jids(payloads: Iterable[bytes]) -> list[str]:
    return [found[1] for raw in payloads if (found := header(raw)) is not None]


def _with_jids(plan: Plan, payloads: Iterable[bytes]) -> Plan:
    return replace(plan, jid=None, jids=[jid.encode() for jid in _jids(payloads)])


def _unflushed(row: object) -> str:
    """Return the likely cause, where an argument is None."""
    if isinstance(row, (list, tuple)) and any(value is None for value in row):
        return "; the key of a new row is None until it is flushed: call session.flush() first"
    return ""


def _warn(name: str) -> None:
    aio.warn_in_loop(name, f"await the same call behind .aio, as in X.aio.{name}(…)", 4)
