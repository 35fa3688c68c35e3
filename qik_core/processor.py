"""One job: decode, look up, run the server chain and `perform`, and say what becomes of it. Read `process` first.

Nothing here speaks to Redis: the outcome is settled by the courier, with the next exchange.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final, NamedTuple, overload

import msgspec

from qik_core import ends, hooks, logs, outcomes, retry, rows, tracing, verdict
from qik_core.chain import server_chain
from qik_core.checks import Checks, ask_for
from qik_core.context import Context
from qik_core.deadlines import Deadlines
from qik_core.definition import Definition
from qik_core.errors import ArgumentError, Cancelled, MalformedPayload, PoisonousJob, UnknownJob
from qik_core.gate import Gate
from qik_core.loop import within
from qik_core.middleware import ServerMiddleware
from qik_core.options import LEVELS
from qik_core.payload import MALFORMED, Payload, Unique, header, new_jid
from qik_core.rows import Rows, Standing
from qik_core.store.ended import EndedKind
from qik_core.store.exchange import Fetched, Kind, Other, Outcome

log: Final = logging.getLogger("qik_core.jobs")
Entered = Callable[[Context], None]
Later = Callable[[Outcome], None]
Await = Callable[[Coroutine[Any, Any, Any], Callable[[Callable[[], object]], None]], Any]


class Run(msgspec.Struct, frozen=True):
    """A job that can be performed."""

    job: Fetched
    payload: Payload
    definition: Definition
    args: Sequence[Any]
    context: Context
    seam: Rows | None = None
    """What knows its row, where a reconciler tells its class."""
    spans: tracing.Runs | None = None
    """What tracers are told of it."""


class Terms(NamedTuple):
    """What the settings say of every run."""

    middleware: Sequence[ServerMiddleware] = ()
    milliseconds: bool = False
    """Times are written as Sidekiq 8 does."""
    retries: int = retry.MANY
    """What `retry=True` means."""
    seam: Callable[[], Rows | None] = rows.known
    """Returns what knows the rows of jobs."""


_PLAIN: Final = Terms()
_SKIPPED: Final = object()
_TAKEN: Final = object()
_WAIT: Final = (
    5.0,
    10.0,
)  # seconds that a job waits whose row another run has, and up to so many more
_DEATHS: Final = retry.DEATHS


class Processor:
    """Performs jobs. One for all threads of a process; keeps nothing between two jobs."""

    def __init__(
        self,
        *,
        find: Callable[[str], Definition | None],
        wait: Await,
        now: Callable[[], float],
        dice: Callable[[], float],
        deadlines: Deadlines,
        terms: Terms = _PLAIN,
    ) -> None:
        self._find = find
        self._wait = wait
        self._now = now
        self._dice = dice
        self._deadlines = deadlines
        self._middleware = terms.middleware
        self._milliseconds = terms.milliseconds
        self._retries = terms.retries
        self._seam = terms.seam
        self.cancelled: Collection[str] = frozenset()
        """Jids that somebody cancelled: they are not started."""
        self.gate: Gate | None = None
        """The kill switches; None: there are none."""
        self.checks = Checks(find, terms.seam)

    @overload
    def process(self, job: Fetched, entered: Entered) -> Outcome: ...
    @overload
    def process(self, job: Fetched, entered: Entered, later: Later) -> Outcome | None: ...
    def process(self, job: Fetched, entered: Entered, later: Later | None = None) -> Outcome | None:
        """Perform one job and say what becomes of it. Never raises: a job may raise anything.

        `entered` is told the context of the run just before it begins. With `later` this may return None when the run has
        ended: then `later` is told the outcome, from another thread, when it is known whether the run made progress.
        """
        try:
            return self._process(job, entered, later)
        except MalformedPayload as error:
            return self._set_aside(job, str(error), error)
        except BaseException as error:
            log.exception("a job could not be dealt with", extra={"queue": job.queue})
            reason = f"not dealt with: {retry.class_of(error)}: {retry.message_of(error)}"
            return self._set_aside(job, reason, error)

    def _process(self, job: Fetched, entered: Entered, later: Later | None) -> Outcome | None:
        payload = Payload.decode(job.raw)
        fields = payload.fields
        name = fields["class"]
        if self.cancelled or _DEATHS in fields or "expiry" in fields or name == MALFORMED:
            over = self._before(job, payload)
            if over is not None:
                return over
        stopped = self.gate.over(job, payload) if self.gate is not None else None
        if stopped is not None:  # switched off since it was fetched
            return stopped
        definition = self._find(name)
        if definition is None:
            return self._unknown(job, payload, f"no imported module defines the job {name!r}")
        try:
            args = definition.arguments.load(payload.args)
        except ArgumentError as error:
            return self._unknown(job, payload, f"the arguments do not fit: {error}")
        seam = self._seam() and self.checks.seam_of(definition.name)
        run = Run(job, payload, definition, args, Context(payload, definition, args), seam)
        entered(run.context)
        if tracing.installed:
            return self._traced(run, later)
        return self._perform(run) if seam is None else self._for_row(run, seam, later)

    def _traced(self, run: Run, later: Later | None) -> Outcome | None:
        with tracing.running(run.payload, run.job.queue, run.context.attempt) as spans:
            run = msgspec.structs.replace(run, spans=spans)
            seam = run.seam
            outcome = self._perform(run) if seam is None else self._for_row(run, seam, later)
            spans.ended(ends.said(outcome))
            return outcome

    def _for_row(self, run: Run, seam: Rows, later: Later | None) -> Outcome | None:
        """Perform a job of a reconciled class if its row still wants it; then see whether the row still does."""
        asked = ask_for(run.definition, run.payload, run.args)
        if self.checks.before(seam, asked, run.job.field) is Standing.GONE:
            return ends.gone(run.job, run.payload, "stale", level=logging.INFO)
        if run.context.cancelled:  # while the question was under way
            return ends.gone(run.job, run.payload, "cancelled")
        outcome = self._perform(run)
        if not ends.ended_well(outcome) or not self.checks.expects(seam, asked.name):
            return outcome
        if later is None:
            return self._judged(outcome, self.checks.after(seam, asked))
        self.checks.afterwards(seam, asked, lambda said: later(self._judged(outcome, said)))
        return None

    def _judged(self, outcome: Outcome, said: Standing) -> Outcome:
        """Return what becomes of a job that ended well, by how its row stands now. Never raises."""
        try:
            if said is not Standing.PENDING:
                return outcome
            payload = Payload.decode(outcome.job.raw)
            return ends.idle(outcome, payload, self.checks.note(EndedKind.NO_PROGRESS, payload))
        except BaseException as error:  # noqa: BLE001 - told; the job has ended well
            hooks.defect("check of rows", error)
            return outcome

    def _before(self, job: Fetched, payload: Payload) -> Outcome | None:
        """Return the outcome of a job that is over before it begins."""
        if payload.class_name == MALFORMED:  # somebody wanted it retried: it is no job still
            return Other(job, Kind.DEAD, None, payload.jid, job.queue, payload.encode())
        if payload.jid in self.cancelled:
            return ends.gone(job, payload, "cancelled")
        if retry.is_condemned(retry.deaths_of(payload)):
            return self._condemned(job, payload)
        if "expiry" in payload.fields and retry.is_late(payload, self._now()):
            return ends.gone(job, payload, "expired")
        return None

    def _perform(self, run: Run) -> Outcome:
        logged = _is_logged(run.payload)
        began = self._now() if logged else 0.0
        if logged:
            log.info("job started", extra=_fields(run))
        try:
            plain = run.seam is None and not self._middleware
            said = self._call(run) if plain else self._around(run)
        except BaseException as error:  # noqa: BLE001 - a job may raise anything
            return self._raised(run, error)
        if said is _SKIPPED:
            return ends.gone(run.job, run.payload, "skipped")
        if said is _TAKEN:
            log.info("job waits: another run has its row", extra=_fields(run))
            return self._later(run, _WAIT[0] + _WAIT[1] * self._dice())
        if isinstance(said, outcomes.Outcome):
            return self._raised(run, said)
        if logged:
            log.info("job done", extra={**_fields(run), "seconds": round(self._now() - began, 6)})
        return ends.done(run.job, run.payload)

    def _around(self, run: Run) -> object:
        """Call the job through the middleware, inside what keeps other runs of its row out."""
        if run.seam is None:
            return self._chained(run)
        with run.seam.guarded(run.definition.name, tuple(run.args)) as free:
            return self._chained(run) if free else _TAKEN

    def _chained(self, run: Run) -> object:
        if not self._middleware:
            return self._call(run)
        said: object = _SKIPPED

        def call(_: Payload) -> None:
            nonlocal said
            said = None  # it was called, whatever comes of it
            said = self._call(run)

        # A copy, since a middleware may change it in place: a retry is made of the job as it came.
        server_chain(self._middleware, call)(Payload.decode(run.payload.encode()))
        return said

    def _call(self, run: Run) -> object:
        definition, limit = run.definition, run.definition.timeout
        perform = definition.new(run.context).perform
        if not definition.is_async:
            if limit is None:
                return perform(*run.args)
            return self._deadlines.run(limit, run.job.field, lambda: perform(*run.args))
        run.context.checkpoint()  # the loop could not take back a first step
        if limit is None:
            return self._wait(perform(*run.args), run.context.when_cancelled)
        over = self._deadlines.watch(limit, run.job.field, lambda: None)
        try:
            return self._wait(within(limit, perform(*run.args)), run.context.when_cancelled)
        finally:
            over()

    # --- what did not end well --------------------------------------------------

    def _raised(self, run: Run, error: BaseException) -> Outcome:
        # The job may have changed its arguments in place: what follows is made of it as it came.
        run = msgspec.structs.replace(run, payload=Payload.decode(run.job.raw))
        if isinstance(error, Cancelled) or (
            run.context.cancelled and isinstance(error, asyncio.CancelledError)
        ):
            stopped = self.gate.over(run.job, run.payload) if self.gate is not None else None
            return stopped or ends.gone(run.job, run.payload, "cancelled")
        if isinstance(error, outcomes.RequeueAfter):
            log.info("job runs again", extra={**_fields(run), "delay": error.seconds})
            return self._later(run, error.seconds)
        return self._failed(run, error)

    def _later(self, run: Run, seconds: float) -> Outcome:
        payload, now = retry.waiting(run.payload), self._now()
        if seconds == 0:
            payload = payload.replace(enqueued_at=int(now * 1000) if self._milliseconds else now)
        jid, queue = payload.jid or new_jid(), run.job.queue
        raw = payload.replace(jid=jid, queue=queue).encode()
        again = retry.fresh(run.payload).encode()
        return Other(
            run.job, Kind.LATER, run.payload.unique, jid, queue, raw, seconds, again, failed=False
        )

    def _failed(self, run: Run, error: BaseException) -> Outcome:
        payload, now = run.payload, self._now()
        decision = verdict.decide(
            payload, error, run.definition, now=now, dice=self._dice(), many=self._retries
        )
        log.warning("job failed", exc_info=error, extra={**_fields(run), "then": str(decision)})
        if run.spans is not None:
            run.spans.failed(error, str(decision))
        if not isinstance(error, outcomes.Outcome):
            hooks.report(error, _fields(run))
        after = retry.failed(payload, error, now, milliseconds=self._milliseconds)
        if isinstance(decision, retry.Again):
            after = after.replace(queue=payload.get("retry_queue", run.job.queue))
            return ends.other(run.job, payload, after, decision)
        hooks.died(after, error)
        discarded = isinstance(decision, retry.Drop) and decision.counter == "discarded"
        note = b"" if discarded else self._note(ends.ended_kind(decision), payload, error)
        return ends.other(run.job, payload, after, decision, note=note)

    def _note(self, kind: EndedKind, payload: Payload, error: BaseException) -> bytes:
        said = f"{retry.class_of(error)}: {retry.message_of(error)}"
        return self.checks.note(kind, payload, said)

    def _condemned(self, job: Fetched, payload: Payload) -> Outcome:
        deaths = retry.deaths_of(payload)
        error = PoisonousJob(f"{deaths} processes died while they ran this job")
        log.error("job is poisonous: dead", extra={"jid": payload.jid, "job": payload.class_name})
        after = retry.failed(payload, error, self._now(), milliseconds=self._milliseconds)
        hooks.died(after, None)
        decision = retry.Drop() if payload.get("dead") is False else retry.Bury()
        note = self._note(EndedKind.CRASHED, payload, error)
        return ends.other(job, payload, after, decision, "poison", note)

    def _unknown(self, job: Fetched, payload: Payload, reason: str) -> Outcome:
        now = self._now()
        log.error(
            "job unknown", extra={"jid": payload.jid, "job": payload.class_name, "reason": reason}
        )
        after, decision = retry.unknown(payload, reason, now), retry.decide_unknown(payload, now)
        note = b""
        if isinstance(decision, retry.Bury):
            error = UnknownJob(reason)
            hooks.died(after, error)
            note = self._note(EndedKind.DIED, payload, error)
        return ends.other(job, payload, after, decision, "unknown", note)

    def _set_aside(self, job: Fetched, reason: str, error: BaseException) -> Outcome:
        """Bury the bytes. What begins with our header held its lock since the fetch, whatever stands behind it."""
        unique, jid, _ = header(job.raw) or ("-", new_jid(), "")
        context = {"jid": jid, "queue": job.queue, "reason": reason}
        log.error("not a job: set aside in the dead set", extra=context)
        hooks.report(error, context)
        envelope = retry.set_aside(job.raw, job.queue, reason, jid, self._now())
        raw = envelope.encode()
        return Other(job, Kind.DEAD, Unique.parse(unique), jid, job.queue, raw, counter="malformed")


def _is_logged(payload: Payload) -> bool:
    if "log_level" not in payload.fields:
        return log.isEnabledFor(logging.INFO)
    wanted = payload["log_level"]
    if type(wanted) is str and wanted in LEVELS:
        logs.admit(wanted)
        return logging.getLevelNamesMapping()[wanted.upper()] <= logging.INFO
    return log.isEnabledFor(logging.INFO)


def _fields(run: Run) -> dict[str, Any]:
    return {
        "jid": run.payload.jid,
        "job": run.definition.name,
        "queue": run.job.queue,
        "attempt": run.context.attempt,
    }
