"""Push and bulk: bind → client chain → `Store.push`.

Without client middleware payloads are built by the column; with it each job is a `Payload` that goes through the chain, and
whatever a middleware changed is checked again before anything is written.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeAlias

from qik_core import aio, options, registry, strict
from qik_core.arguments import RowError
from qik_core.board import Board
from qik_core.definition import Definition, untyped
from qik_core.errors import ArgumentError, DefinitionError, QikError, StoreUnavailable
from qik_core.gate import Gate
from qik_core.middleware import client_chain
from qik_core.parcels import Batch, Parcel, chained, gated, refusal, whole
from qik_core.plan import Plan
from qik_core.results import Advanced, BulkResult, Code, Dirtied, Duplicate, Enqueued, Push, Refused
from qik_core.settings import Settings, Wire
from qik_core.settings import current as current_settings
from qik_core.shapes import BATCH
from qik_core.store import Epoch, Store
from qik_core.switches import Snapshot

_LARGEST_BATCH: Final = 100_000
_HELD_FULL: Final = "held_full: {} is switched off, and 10,000 jobs or 64 MB of it are held already"
_CALL_ONLY: Final = frozenset({"jid", "wait", "wait_until", "jitter"})


@dataclass(slots=True)
class Answers:
    """What became of the items of a call, in their order."""

    codes: list[Code] = field(default_factory=list)
    jids: list[str] = field(default_factory=list)
    """The jids that were given out; empty for a refused item."""
    standing: str = ""
    """After the push of one job: the jid that stands for its key."""
    refused: Refused | None = None
    """The last refusal."""
    epoch: Epoch | None = None
    """As of the last chunk; None when everything was refused."""

    def only(self) -> Push:
        """Return the answer to the push of one job."""
        code = self.codes[0]
        if self.refused is not None:
            return self.refused
        if code is Code.ENQUEUED:
            return Enqueued(self.standing)
        if code is Code.ADVANCED:
            return Advanced(self.standing)
        if code is Code.DIRTIED:
            return Dirtied(self.standing)
        return Duplicate(self.standing, code)


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
        answers = Answers()
        try:
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
        for batch in batches(rows, batch_size, definition.name):
            start = len(answers.codes)
            try:
                self.send(definition, batch, plan.part(start, len(batch)), answers)
            except RowError as error:
                raise error.moved(start) from None
            except QikError as error:
                error.add_note(f"perform_bulk: {start:,} items of earlier batches were written")
                raise
        if plan.dues is not None and len(plan.dues) > len(answers.codes):
            raise ArgumentError(
                f"{definition.name}: at has {len(plan.dues):,} times, and rows ended after {len(answers.codes):,}, "
                "which were written"
            )
        return BulkResult(answers.codes, answers.jids)

    def send(
        self, definition: Definition, rows: Sequence[Sequence[Any]], plan: Plan, answers: Answers
    ) -> None:
        """Push one batch and add what became of it to `answers`. For passes too: their `plan` says so.

        Raises:
            RowError: an item cannot travel; nothing of the batch was written.
            NotEnqueued, OutcomeUnknown: see there; about one chunk of at most 500 jobs.
        """
        parcels, refused, jids = self._parcels(definition, rows, plan)
        spent = self._look()
        if self.gate.shut:
            parcels = self._gated(definition, parcels, refused)
        start = len(answers.codes)
        answers.codes += [Code.REFUSED] * len(rows)
        answers.jids += jids
        for place, answer in refused.items():
            answers.jids[start + place] = ""
            answers.refused = answer
        for parcel in parcels:
            self._deliver(parcel, start, answers, spent)

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

    def _parcels(
        self, definition: Definition, rows: Sequence[Sequence[Any]], plan: Plan
    ) -> tuple[list[Parcel], dict[int, Refused], list[str]]:
        """Return what is to be sent, the refusals by place, and the jids."""
        with strict.limited(self._limit):
            batch = self._batch(definition, rows, plan)
            parcels, refused = (
                (whole(batch), {}) if self._chain is None else chained(self._chain, batch)
            )
        return parcels, refused, [jid.decode() for jid in batch.built.jids]

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
        _check_sizes(definition.name, built.payloads)
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

    def _deliver(self, parcel: Parcel, start: int, answers: Answers, spent: float) -> None:
        pushed = self.store.push(parcel.chunk, spent=spent)
        for place, code in zip(parcel.places, pushed.codes, strict=True):
            answers.codes[start + place] = code
            if code is Code.REFUSED and parcel.stop is not None:
                answers.jids[start + place] = ""
                answers.refused = refusal(parcel.stop, _HELD_FULL.format(parcel.chunk.held))
        answers.standing = pushed.jid
        answers.epoch = pushed.epoch


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


def batches(rows: Iterable[Sequence[Any]], size: int, name: str) -> Iterator[list[Sequence[Any]]]:
    """Yield the rows of a bulk, `size` at a time.

    Raises:
        ArgumentError: a size that cannot be.
    """
    if type(size) is not int or not 1 <= size <= _LARGEST_BATCH:
        raise ArgumentError(f"{name}: batch_size is {size!r:.40}: use 1 to {_LARGEST_BATCH:,}")
    left = iter(rows)
    while batch := list(islice(left, size)):
        yield batch


def checked(rows: Iterable[Sequence[Any]], plan: Plan, name: str) -> Iterable[Sequence[Any]]:
    """Return the rows of a bulk.

    Raises:
        ArgumentError: they are none, or the plan cannot be that of many jobs.
    """
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise ArgumentError(
            f"{name}: perform_bulk was given a {strict.named(type(rows))}: use an iterable of tuples, as in [(1,), (2,)]"
        )
    if plan.jid is not None:
        raise ArgumentError(f"{name}: one jid cannot be that of many jobs: leave it out")
    if plan.dues is not None and isinstance(rows, Sized) and len(rows) != len(plan.dues):
        raise ArgumentError(
            f"{name}: at has {len(plan.dues):,} times for {len(rows):,} rows: give one for each, or one for all"
        )
    return rows


def _check_sizes(name: str, payloads: Sequence[bytes]) -> None:
    limit = strict.limit()
    if not payloads or max(map(len, payloads)) <= limit:
        return
    index = next(index for index, raw in enumerate(payloads) if len(raw) > limit)
    raise RowError(
        index,
        f"{name}: args make a job of {len(payloads[index]):,} bytes as JSON, larger than {limit:,} bytes (max_payload): "
        "store it, and pass its id",
    )
