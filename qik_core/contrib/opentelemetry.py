"""OpenTelemetry: spans from a push to its run, and of passes, across processes.

    from qik_core.contrib import opentelemetry
    opentelemetry.instrument()          # where the application starts, in every process

What a push is inside of travels in the job as W3C's `traceparent` (and `tracestate`, `baggage`: whatever propagators are
set), at the top level of the payload, where OpenTelemetry's instrumentation of Ruby's Sidekiq writes and reads it. Names
follow the semantic conventions of messaging. Needs the extra `otel`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from qik_core import logs, retry, tracing
from qik_core.payload import Payload
from qik_core.tracing import Answered, PassEnd
from qik_core.version import VERSION

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
except ImportError as error:
    raise ImportError(
        "qik_core.contrib.opentelemetry needs opentelemetry-api: pip install 'qik-core[otel]'"
    ) from error

_SYSTEM: Final = {"messaging.system": "qik"}
_MILLISECONDS: Final = 1000  # for what is not sent yet, when the process ends


def instrument(*, tracer_provider: TracerProvider | None = None, child: bool = False) -> None:
    """Make spans from now on: of calls that push, of runs, and of passes. The last call holds.

    The provider is OpenTelemetry's global one unless another is given. A run links to the span of its push, and begins
    a trace of its own; with `child` it is a part of the push's trace: so is then every job of a bulk, or of a pass.
    """
    global _instrumented  # noqa: PLW0603 - one per process, as the seam
    uninstrument()
    _instrumented = _Spans(tracer_provider, child=child)
    tracing.install(_instrumented)
    logs.tell_also(ids)


def uninstrument() -> None:
    """Make no more spans."""
    global _instrumented  # noqa: PLW0603
    if _instrumented is not None:
        tracing.remove(_instrumented)
        logs.tell_no_more(ids)
        _instrumented = None


def ids() -> Mapping[str, str]:
    """Return `trace_id` and `span_id` of the span that is active, as log lines carry them; nothing outside of spans."""
    active = trace.get_current_span().get_span_context()
    if not active.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(active.trace_id),
        "span_id": trace.format_span_id(active.span_id),
    }


class _Spans:
    """Fills the seam `qik_core.tracing`."""

    def __init__(self, provider: TracerProvider | None, *, child: bool) -> None:
        self._provider = provider
        self._tracer = trace.get_tracer("qik_core", VERSION, provider)
        self._child = child

    def fields(self) -> Mapping[str, Any]:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier

    @contextmanager
    def pushing(self, job: str, queue: str, *, bulk: bool) -> Iterator[Callable[[Answered], None]]:
        about = {**_about("send", queue), "qik.job.class": job}
        with self._tracer.start_as_current_span(
            f"send {queue}", kind=SpanKind.PRODUCER, attributes=about
        ) as span:
            try:
                yield partial(_answered, span, bulk)
            except Exception as error:
                span.set_attribute("error.type", type(error).__qualname__)
                raise

    @contextmanager
    def running(self, job: Payload, queue: str, attempt: int) -> Iterator[_Run]:
        about: dict[str, Any] = {
            **_about("process", queue),
            "messaging.message.id": job.jid,
            "qik.job.class": job.class_name,
            "qik.job.attempt": attempt,
        }
        # A field may have any type: whoever wrote it, only text can be a header.
        carried = propagate.extract(
            {name: each for name, each in job.fields.items() if type(each) is str}
        )
        pushed = trace.get_current_span(carried).get_span_context()
        links = [Link(pushed)] if pushed.is_valid else []
        if not self._child:
            carried = trace.set_span_in_context(trace.INVALID_SPAN, carried)
        token = context.attach(carried)
        try:
            with self._tracer.start_as_current_span(
                f"process {queue}", kind=SpanKind.CONSUMER, attributes=about, links=links
            ) as span:
                yield _Run(span)
        finally:
            context.detach(token)

    @contextmanager
    def passing(
        self, reconciler: str, queues: Sequence[str]
    ) -> Iterator[Callable[[PassEnd], None]]:
        about: dict[str, Any] = {**_SYSTEM, "qik.reconciler": reconciler}
        if len(queues) == 1:
            about["messaging.destination.name"] = queues[0]
        with self._tracer.start_as_current_span(
            f"pass {reconciler}", kind=SpanKind.PRODUCER, attributes=about
        ) as span:
            yield partial(_passed, span)

    def flush(self) -> None:
        # The API has no word for it; every SDK's provider has, and a child leaves without Python's own farewell.
        flush = getattr(self._provider or trace.get_tracer_provider(), "force_flush", None)
        if flush is not None:
            flush(_MILLISECONDS)


_instrumented: _Spans | None = None


class _Run:
    """The span of a run."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def failed(self, error: BaseException, then: str) -> None:
        self._span.set_attribute("qik.job.then", then)
        if then != "discarded":  # by its own word or by a rule of its class: nothing is wrong
            _fail(self._span, error)

    def ended(self, how: str) -> None:
        self._span.set_attribute("qik.job.outcome", how)


def _about(operation: str, queue: str) -> dict[str, Any]:
    return {
        **_SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
    }


def _answered(span: Span, bulk: bool, answers: Answered) -> None:  # noqa: FBT001 - bound by position
    if bulk:
        span.set_attribute("messaging.batch.message_count", len(answers.codes))
    elif answers.jids[0]:
        span.set_attribute("messaging.message.id", answers.jids[0].decode())
    for code, count in Counter(answers.codes).items():
        span.set_attribute(f"qik.codes.{code}", count)


def _passed(span: Span, end: PassEnd) -> None:
    span.set_attribute("qik.pass.outcome", end.outcome)
    for name, count in end.counts.items():
        span.set_attribute(f"qik.pass.{name}", count)
    if end.reason:
        span.set_attribute("qik.pass.reason", end.reason)
    if end.error is not None:
        _fail(span, end.error)
    elif end.failed:
        span.set_status(Status(StatusCode.ERROR, end.reason))


def _fail(span: Span, error: BaseException) -> None:
    name = retry.class_of(error)
    span.set_attribute("error.type", name)
    span.set_status(Status(StatusCode.ERROR, f"{name}: {retry.message_of(error)}"))
    span.record_exception(error)
