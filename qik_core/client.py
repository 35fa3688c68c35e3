"""Push and bulk: bind → client chain → `Store.push`.

Without client middleware payloads are built by the column; with it each job is a `Payload` that goes through the chain, and
whatever a middleware changed is checked again before anything is written.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final, TypeAlias

from qik_core import aio, options, registry, strict, tallies, tracing
from qik_core.answers import Answers, answered
from qik_core.arguments import RowError
from qik_core.board import Board
from qik_core.bulk import batches, check_sizes, checked, too_large
from qik_core.definition import Definition, untyped
from qik_core.errors import ArgumentError, DefinitionError, QikError, StoreUnavailable
from qik_core.gate import Gate
from qik_core.middleware import client_chain
from qik_core.parcels import Batch, Parcel, chained, gated, whole
from qik_core.plan import PLAIN, Plan
from qik_core.results import BulkResult, Code, Push, Refused
from qik_core.settings import Settings, Wire
from qik_core.settings import current as current_settings
from qik_core.shapes import BATCH
from qik_core.store import Chunk, Store
from qik_core.switches import Snapshot

_CALL_ONLY: Final = frozenset({"jid", "wait", "wait_until", "jitter"})


Made: TypeAlias = tuple[list[Parcel], dict[int, Refused], list[bytes]]
"""What of a batch is to be sent, the refusals by place, and the jids."""


class Client:
    """Pushes jobs to one Redis. Safe to use from many threads.

    `now` gives epoch seconds, `dice` numbers in [0, 1).
    """

    def __init__(
        self,
        store: Store,
        settings: Settings | None = None,
        *,
        now: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
    ) -> None:
        settings = settings or Settings()
        self.store = store
        self._limit = settings.max_payload
        self._milliseconds = settings.wire is Wire.SIDEKIQ8
        self._chain = (
            client_chain(settings.client_middleware) if settings.client_middleware else None
        )
        self._now = now
        self._dice = dice
        board = Board(configured=settings.switches.configured)
        self.gate = Gate(board, registry.find, now)
        """The kill switches, as they are known here."""

    def push(self, job: object, args: Sequence[Any], **given: Any) -> Push:
        """Push one job by its class or by its name; a name that is not defined here travels as it is, for Ruby.

        `given` are the options of `set()`.

        Raises:
            ArgumentError, DefinitionError: it cannot travel as it is; nothing was written.
            NotEnqueued, OutcomeUnknown: see there.
        """
        definition = definition_of(job)
        if not isinstance(args, (list, tuple)):
            raise ArgumentError(
                f"{definition.name}: args is a {strict.named(type(args))}: use a list or a tuple"
            )
        changed, plan = resolve(definition, given)
        return self.perform(changed, changed.arguments.bind(args, {}), plan)

    def perform(self, definition: Definition, row: Sequence[Any], plan: Plan) -> Push:
        """Push one job with its bound arguments.

        Raises:
            ArgumentError: an argument cannot travel; nothing was written.
            NotEnqueued, OutcomeUnknown: see there.
        """
        if plan is PLAIN and self._chain is None and not tracing.installed:
            pushed = self._alone(definition, row)
            if pushed is not None:
                return pushed
        answers = Answers()
        try:
            if tracing.installed:
                with tracing.pushing(definition, answers) as marked:
                    self.send(marked, [row], plan, answers)
            else:
                self.send(definition, [row], plan, answers)
        except RowError as error:
            raise ArgumentError(error.message) from None
        return answers.only()

    def bulk(
        self,
        definition: Definition,
        rows: Iterable[Sequence[Any]],
        plan: Plan,
        batch_size: int = BATCH,
    ) -> BulkResult:
        """Push many jobs, taken from `rows` as they are needed, and return a code per item.

        A batch is checked whole before any of it is written. When an item of a later batch cannot travel, the error
        names its index, and the batches before it stay written. An error of Redis carries a note saying how many items
        were answered before it.

        Raises:
            ArgumentError: an item cannot travel.
            NotEnqueued, OutcomeUnknown: see there; about one chunk of at most 500 jobs.
        """
        answers, rows = Answers(), checked(rows, plan, definition.name)
        # Others than these may take their time: no answer is left unread meanwhile.
        at_hand = type(rows) in (list, tuple)
        traced = tracing.pushing(definition, answers, bulk=True) if tracing.installed else None
        try:
            with traced or nullcontext(definition) as marked:
                for batch in batches(rows, batch_size, definition.name):
                    self._next(marked, batch, plan, answers)
                    if not at_hand:
                        answers.land()
                answers.land()
        except RowError:
            raise
        except QikError as error:
            done = f"{answers.written:,} items of earlier batches were written"
            error.add_note(f"perform_bulk: {done}")
            raise
        if plan.dues is not None and len(plan.dues) > len(answers.codes):
            raise ArgumentError(
                f"{definition.name}: at has {len(plan.dues):,} times, and rows ended after {len(answers.codes):,}, "
                "which were written"
            )
        return BulkResult(answers.codes, [jid.decode() for jid in answers.jids])

    def _alone(self, definition: Definition, row: Sequence[Any]) -> Push | None:
        """Push one job for now without what a batch needs; None where a kill switch might stop it: nothing was sent."""
        with strict.limited(self._limit):
            jid, raw, digest = definition.build_one(
                row, self._now(), milliseconds=self._milliseconds
            )
        if len(raw) > self._limit:
            raise ArgumentError(too_large(definition.name, raw, self._limit))
        spent = self._look()
        if self.gate.shut:
            return None
        unique = definition.unique
        chunk = Chunk(
            queue=definition.queue,
            jids=(jid,),
            payloads=(raw,),
            digests=None if digest is None else (digest,),
            seconds=0 if unique is None else unique.seconds,
            until="success" if unique is None else unique.until,
        )
        pushed = self.store.send(chunk, spent=spent).answer()
        if tallies.current is not None:
            tallies.current.pushed(pushed.codes)
        return answered(pushed.codes[0], pushed.jid)

    def _next(
        self, definition: Definition, batch: Sequence[Sequence[Any]], plan: Plan, answers: Answers
    ) -> None:
        start = len(answers.codes)
        try:
            made = self._parcels(definition, batch, plan.part(start, len(batch)))
        except QikError as error:
            answers.land()  # what went wrong there came first
            answers.written = start
            raise error.moved(start) if isinstance(error, RowError) else error from None
        self._start(definition, made, answers)

    def send(
        self, definition: Definition, rows: Sequence[Sequence[Any]], plan: Plan, answers: Answers
    ) -> None:
        """Push one batch and add what became of it to `answers`. For passes too: their `plan` says so.

        Raises:
            RowError: an item cannot travel; nothing of the batch was written.
            NotEnqueued, OutcomeUnknown: see there; about one chunk of at most 500 jobs.
        """
        self.start(definition, rows, plan, answers)
        answers.land()

    def start(
        self, definition: Definition, rows: Sequence[Sequence[Any]], plan: Plan, answers: Answers
    ) -> None:
        """Do the same, but leave the last chunk on its way, until `answers.land()`: Redis works meanwhile."""
        self._start(definition, self._parcels(definition, rows, plan), answers)

    def _start(self, definition: Definition, made: Made, answers: Answers) -> None:
        """Send what was made, each chunk when the one before it has its answer: nothing goes behind a failure."""
        parcels, refused, jids = made
        spent = self._look()
        if self.gate.shut:
            parcels = self._gated(definition, parcels, refused)
        start = len(answers.codes)
        answers.codes += [Code.REFUSED] * len(jids)
        answers.jids += jids
        if refused and tallies.current is not None:
            tallies.current.pushed([Code.REFUSED] * len(refused))
        for place, answer in refused.items():
            answers.jids[start + place] = b""
            answers.refused = answer
        for parcel in parcels:
            answers.land()
            answers.sent(parcel, start, self.store.send(parcel.chunk, spent=spent))
            spent = 0.0

    def look(self) -> Snapshot:
        """Return the kill switches that are known; looks for newer ones once a second."""
        self._look()
        return self.gate.board.snapshot

    def check(
        self, definition: Definition, rows: Sequence[Sequence[Any]], plan: Plan
    ) -> list[bytes]:
        """Return the payloads of jobs that are to be pushed later. Nothing is sent, and no middleware is asked.

        Raises:
            RowError: an item cannot travel.
        """
        with strict.limited(self._limit):
            return self._batch(definition, rows, plan).built.payloads

    def passed(self, definition: Definition, row: Sequence[Any], plan: Plan) -> bytes | Refused:
        """Return the payload of one job as the client middleware left it. Nothing is sent.

        Raises:
            RowError: an argument cannot travel.
            NotEnqueued: a middleware failed, or made something that cannot travel.
        """
        parcels, refused, _ = self._parcels(definition, [row], plan)
        return refused[0] if refused else parcels[0].chunk.payloads[0]

    def _parcels(self, definition: Definition, rows: Sequence[Sequence[Any]], plan: Plan) -> Made:
        """Return what is to be sent, the refusals by place, and the jids."""
        with strict.limited(self._limit):
            batch = self._batch(definition, rows, plan)
            parcels, refused = (
                (whole(batch), {}) if self._chain is None else chained(self._chain, batch)
            )
        return parcels, refused, batch.built.jids

    def _batch(self, definition: Definition, rows: Sequence[Sequence[Any]], plan: Plan) -> Batch:
        delays, due = plan.times(len(rows), self._dice)
        now = self._now()
        built = definition.build(
            rows,
            now,
            due=[now + delay for delay in delays] if delays is not None else due,
            milliseconds=self._milliseconds,
            jids=plan.given_jids(),
            digests=plan.digests,
        )
        check_sizes(definition.name, built.payloads)
        return Batch(definition, built, plan.origin, delays, due, plan.versions)

    def _look(self) -> float:
        """Look at the kill switches once a second; returns the seconds that this took in vain."""
        began = time.monotonic()
        try:
            self.gate.board.look(self.store.switches)
        except StoreUnavailable:
            return time.monotonic() - began
        return 0.0

    def _gated(
        self, definition: Definition, parcels: Sequence[Parcel], refused: dict[int, Refused]
    ) -> list[Parcel]:
        """Return what the kill switches let through or have held, and add their refusals."""
        left: list[Parcel] = []
        for parcel in parcels:
            some, stopped = gated(self.gate, definition, parcel)
            left += some
            refused.update(stopped)
        return left


# --- the default client, used by job classes -------------------------------------------------------

Opener: TypeAlias = Callable[[Settings], Store]


def open_store(settings: Settings) -> Store:
    """Return a store on the Redis of these settings, or what stands in for it inside `opening`."""
    return _opener(settings)


def _on_redis(settings: Settings) -> Store:
    return Store(settings.redis, milliseconds=settings.wire is Wire.SIDEKIQ8)


_lock = threading.Lock()
_opener: Opener = _on_redis
_default: tuple[int, Settings, Client] | None = None


@contextmanager
def opening(opener: Opener) -> Iterator[None]:
    """Inside, `open_store` and the default client use what `opener` returns. For tests, in the whole process."""
    global _default, _opener
    with _lock:
        before = _opener, _default
        _opener, _default = opener, None
    try:
        yield
    finally:
        with _lock:
            _opener, _default = before


def current() -> Client:
    """Return the client of this process; made anew after a fork and after the settings changed.

    Raises:
        SettingsError: the settings cannot work.
    """
    global _default  # noqa: PLW0603 - the one default, read at the edge only
    settings, process = current_settings(), os.getpid()
    there = _default
    if there is not None and there[0] == process and there[1] is settings:
        return there[2]
    with _lock:
        client = Client(_opener(settings), settings)
        _default = (process, settings, client)
        return client


def push(job: object, args: Sequence[Any], **given: Any) -> Push:
    """Push one job with the default client: the untyped door. See `Client.push`."""
    aio.warn_in_loop(
        "push", "await asyncio.to_thread(push, …), or the job's own .aio.perform_async(…)"
    )
    return current().push(job, args, **given)


def definition_of(job: object) -> Definition:
    """Return the definition of a job class, or of a name; one that is not defined here is taken as Ruby's.

    Raises:
        DefinitionError: neither a job class nor a name.
    """
    if isinstance(job, str):
        return registry.find(job) or untyped(job)
    definition = getattr(job, "definition", None)
    if isinstance(definition, Definition):
        return definition
    raise DefinitionError(
        f"a {strict.named(type(job))} is no job: give a Job class, or its name as a str"
    )


def resolve(definition: Definition, given: Mapping[str, Any]) -> tuple[Definition, Plan]:
    """Return the definition and the plan that the options of one call make.

    Raises:
        ArgumentError, DefinitionError: an option that does not exist or cannot work.
    """
    where = f"{definition.name}.set"
    options.known(given, options.CALL_OPTIONS, where)
    changes = {name: value for name, value in given.items() if name not in _CALL_ONLY}
    return definition.with_options(changes, where), Plan.of(given, where)
