"""Sentry: errors of jobs and passes with what they were, and its traces from a push to its run.

    sentry_sdk.init(dsn=…)
    from qik_core.contrib import sentry
    sentry.instrument()                 # in every process, before or behind init()

A job that fails is reported once, when no retry is left; `retried=True` reports each failure. No argument of a job and no
local variable leaves this process unless `arguments=True`. The trace travels as `trace_propagation_headers`, the field of
sentry-sidekiq in Ruby. Needs the extra `sentry`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from qik_core import hooks, outcomes, tracing
from qik_core.errors import UnknownJob
from qik_core.payload import Payload
from qik_core.tracing import Answered, PassEnd

try:
    import sentry_sdk
    from sentry_sdk.integrations.logging import ignore_logger
except ImportError as error:
    raise ImportError(
        "qik_core.contrib.sentry needs sentry-sdk: pip install 'qik-core[sentry]'"
    ) from error

_HEADERS: Final = "trace_propagation_headers"
_ORIGIN: Final = "auto.queue.qik"
_SECONDS: Final = 1.0  # for what is not sent yet, when the process ends
_REPORTED: Final = ("qik_core.jobs", "qik_core.hooks")
"""Loggers whose errors are reported here: Sentry's logging integration would report them again."""


def instrument(*, retried: bool = False, arguments: bool = False) -> None:
    """Report from now on; the last call holds.

    `retried` also reports failures that are tried again. `arguments` sends the arguments of jobs, and the local variables
    that the SDK collects.
    """
    global _instrumented  # noqa: PLW0603 - one per process, as the seam
    uninstrument()
    _instrumented = _Sentry(retried=retried, arguments=arguments)
    tracing.install(_instrumented)
    hooks.on_error(_error)
    hooks.on_death(_death)
    for name in _REPORTED:
        ignore_logger(name)


def uninstrument() -> None:
    """Report no more."""
    global _instrumented  # noqa: PLW0603
    if _instrumented is not None:
        tracing.remove(_instrumented)
        _instrumented = None


class _Sentry:
    """Fills the seam `qik_core.tracing`."""

    def __init__(self, *, retried: bool, arguments: bool) -> None:
        self.retried = retried
        self.arguments = arguments

    def fields(self) -> Mapping[str, Any]:
        if not sentry_sdk.is_initialized():
            return {}
        headers = {
            "sentry-trace": sentry_sdk.get_traceparent(),
            "baggage": sentry_sdk.get_baggage(),
        }
        return {_HEADERS: {name: each for name, each in headers.items() if each}}

    @contextmanager
    def pushing(self, job: str, queue: str, *, bulk: bool) -> Iterator[Callable[[Answered], None]]:
        with sentry_sdk.start_span(op="queue.publish", name=job, origin=_ORIGIN) as span:
            span.set_data("messaging.destination.name", queue)

            def answered(answers: Answered) -> None:
                if bulk:
                    span.set_data("messaging.batch.message_count", len(answers.codes))
                elif answers.jids[0]:
                    span.set_data("messaging.message.id", answers.jids[0].decode())

            yield answered

    @contextmanager
    def running(self, job: Payload, queue: str, attempt: int) -> Iterator[_Run]:
        name = job.class_name
        with sentry_sdk.isolation_scope() as scope:
            scope.clear_breadcrumbs()
            scope.add_event_processor(self._clean)
            scope.set_transaction_name(name, source="task")
            scope.set_tags({"job": name, "jid": job.jid, "queue": queue, "attempt": attempt})
            if self.arguments:
                scope.set_context("qik", {"args": job.args})
            transaction = sentry_sdk.continue_trace(
                _headers(job), op="queue.process", name=name, source="task", origin=_ORIGIN
            )
            with sentry_sdk.start_transaction(transaction) as span:
                span.set_data("messaging.destination.name", queue)
                span.set_data("messaging.message.id", job.jid)
                span.set_data("messaging.message.retry.count", attempt - 1)
                yield _Run(span, retried=self.retried)

    @contextmanager
    def passing(
        self, reconciler: str, queues: Sequence[str]
    ) -> Iterator[Callable[[PassEnd], None]]:
        with sentry_sdk.isolation_scope() as scope:
            scope.clear_breadcrumbs()
            scope.add_event_processor(self._clean)
            scope.set_tag("reconciler", reconciler)
            with sentry_sdk.start_transaction(
                op="queue.publish", name=f"pass {reconciler}", source="task", origin=_ORIGIN
            ) as span:

                def ended(end: PassEnd) -> None:
                    span.set_status("internal_error" if end.failed else "ok")
                    about = {"queues": list(queues), "outcome": end.outcome, **end.counts}
                    scope.set_context("pass", about)
                    if end.error is not None:
                        sentry_sdk.capture_exception(end.error)

                yield ended

    def flush(self) -> None:
        sentry_sdk.flush(timeout=_SECONDS)

    def _clean(self, event: Any, _hint: Mapping[str, Any]) -> Any:
        """Return an event without local variables, unless they were asked for: arguments of jobs are among them."""
        if not self.arguments:
            if event.get("type") is None and "exception" not in event:
                # With `attach_stacktrace` the SDK puts a stack in here after the last processor has seen the event.
                event.setdefault("threads", {"values": []})
            for part in ("exception", "threads"):
                for each in event.get(part, {}).get("values", ()):
                    for frame in (each.get("stacktrace") or {}).get("frames", ()):
                        frame.pop("vars", None)
        return event


_instrumented: _Sentry | None = None


class _Run:
    """What Sentry is told of a run, in its own scope."""

    def __init__(self, span: Any, *, retried: bool) -> None:
        self._span = span
        self._retried = retried

    def failed(self, error: BaseException, then: str) -> None:
        if then == "discarded":  # by its own word or by a rule of its class: nothing is wrong
            return
        self._span.set_status("internal_error")
        again = then.startswith("retry")
        if not again or (self._retried and not isinstance(error, outcomes.Outcome)):
            sentry_sdk.set_tag("then", then)
            sentry_sdk.capture_exception(error)

    def ended(self, how: str) -> None:
        self._span.set_data("qik.job.outcome", how)
        if how == "done":
            self._span.set_status("ok")


def _error(error: BaseException, context: Mapping[str, Any]) -> None:
    """Report an error of the worker itself; one of a run, which says its attempt, is told by the run."""
    if _instrumented is None or "attempt" in context:
        return
    with sentry_sdk.new_scope() as scope:
        scope.add_event_processor(_instrumented._clean)  # noqa: SLF001
        scope.set_tags({name: str(each) for name, each in context.items() if name != "reason"})
        sentry_sdk.capture_exception(error)


def _death(job: Payload, error: BaseException | None) -> None:
    """Report a job that died without a run: of a poisonous one nobody has an error."""
    if _instrumented is None or not (error is None or isinstance(error, UnknownJob)):
        return
    with sentry_sdk.new_scope() as scope:
        scope.add_event_processor(_instrumented._clean)  # noqa: SLF001
        scope.set_tags({"job": job.class_name, "jid": job.jid, "queue": job.queue})
        if error is None:
            said = f"{job.class_name}: poisonous, processes died while they ran it"
            sentry_sdk.capture_message(said, level="error")
        else:
            sentry_sdk.capture_exception(error)


def _headers(job: Payload) -> dict[str, str]:
    carried = job.get(_HEADERS)
    if type(carried) is not dict:
        return {}
    return {name: each for name, each in carried.items() if type(each) is str}
