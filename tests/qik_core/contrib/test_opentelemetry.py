from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import reconciler  # noqa: F401 - it knows sessions
from qik_core import Enqueued, Job, hooks, registry, settings, tracing
from qik_core.contrib import opentelemetry
from qik_core.embedding import EmbeddedWorker
from qik_core.errors import NotEnqueued
from qik_core.logs import JobFields, Json
from qik_core.outcomes import Discard
from qik_core.settings import Settings
from qik_core.tracing import PassEnd
from tests.waiting import eventually

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "tracing.md"
REQUEST = NonRecordingSpan(SpanContext(1 << 100, 7, is_remote=False, trace_flags=TraceFlags(1)))
seen: list[str] = []

with registry.scope():

    class Charge(Job, queue="billing", retry=2):
        def perform(self, number: int) -> None:
            seen.append(baggage_of_now())
            if number < 0:
                raise ValueError(f"no invoice {number}")
            if number == 0:
                raise Discard("nothing to charge")

    class ChargeOnLoop(Job, queue="billing"):
        async def perform(self, number: int) -> None:
            seen.append(format(trace.get_current_span().get_span_context().trace_id, "032x"))

    class ChargeOnce(Job, queue="billing", unique_for=timedelta(hours=1)):
        def perform(self, number: int) -> None:
            pass


JOBS = (Charge, ChargeOnLoop, ChargeOnce)


def baggage_of_now() -> str:
    return str(baggage.get_baggage("tenant"))


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The spans that have ended, of a provider of this test's own."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    opentelemetry.instrument(tracer_provider=provider)
    yield exporter
    opentelemetry.uninstrument()
    hooks.clear()
    provider.shutdown()


@pytest.fixture(autouse=True)
def _forget() -> None:
    seen.clear()


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [each for each in spans.get_finished_spans() if each.name == name]


def runs(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    """Let a worker run the one job there is, and return the spans of its runs."""
    with EmbeddedWorker(concurrency=2):
        eventually(lambda: named(spans, "process billing"))
    return named(spans, "process billing")


def is_dead(raw: redis.Redis) -> bool:
    """Whether the job is dead; its retries are due at once."""
    for member, _ in raw.zscan_iter("retry"):
        raw.zadd("retry", {member: 0}, xx=True)
    return bool(raw.zcard("dead"))


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def payloads(raw: redis.Redis) -> list[dict[str, Any]]:
    return [json.loads(each) for each in raw.lrange("queue:billing", 0, -1)]


def place(span: ReadableSpan) -> tuple[int, int]:
    """Return the ids of a span's trace and of itself."""
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(each.context.trace_id, each.context.span_id) for each in span.links]


def traceparent(span: ReadableSpan) -> str:
    about = span.context
    assert about is not None
    return f"00-{about.trace_id:032x}-{about.span_id:016x}-{about.trace_flags:02x}"


def test_a_push_is_a_span_and_its_context_travels_where_rubys_instrumentation_reads_it(
    spans: InMemorySpanExporter, raw: redis.Redis
) -> None:
    pushed = Charge.perform_async(7)
    assert isinstance(pushed, Enqueued)

    (sent,) = spans.get_finished_spans()
    (payload,) = payloads(raw)
    assert (sent.name, sent.kind) == ("send billing", SpanKind.PRODUCER)
    assert payload["traceparent"] == traceparent(sent)
    assert list(payload)[:3] == ["qik", "jid", "queue"]
    assert list(payload)[-1] == "enqueued_at"
    assert attributes(sent) == {
        "messaging.system": "qik",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "billing",
        "messaging.message.id": pushed.jid,
        "qik.job.class": Charge.definition.name,
        "qik.codes.enqueued": 1,
    }


def test_a_bulk_is_one_span_that_counts_its_jobs(
    spans: InMemorySpanExporter, raw: redis.Redis
) -> None:
    ChargeOnce.perform_async(1)
    ChargeOnce.perform_bulk([(number,) for number in range(1, 1201)])

    sent = named(spans, "send billing")[1:]
    assert len(sent) == 1
    assert attributes(sent[0])["messaging.batch.message_count"] == 1200
    assert attributes(sent[0])["qik.codes.enqueued"] == 1199
    assert {each["traceparent"] for each in payloads(raw)[:1199]} == {traceparent(sent[0])}


def test_a_run_links_to_its_push_and_begins_a_trace_of_its_own(
    spans: InMemorySpanExporter,
) -> None:
    pushed = Charge.perform_async(7)
    assert isinstance(pushed, Enqueued)
    (run,) = runs(spans)

    (sent,) = named(spans, "send billing")
    assert run.kind is SpanKind.CONSUMER
    assert run.parent is None
    assert linked(run) == [place(sent)]
    assert place(run)[0] != place(sent)[0]
    assert attributes(run) == {
        "messaging.system": "qik",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "billing",
        "messaging.message.id": pushed.jid,
        "qik.job.class": Charge.definition.name,
        "qik.job.attempt": 1,
        "qik.job.outcome": "done",
    }


def test_a_run_is_a_part_of_the_trace_of_its_push_where_that_is_asked_for(
    spans: InMemorySpanExporter,
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    opentelemetry.instrument(tracer_provider=provider, child=True)
    Charge.perform_async(7)
    (run,) = runs(spans)

    (sent,) = named(spans, "send billing")
    assert run.parent is not None
    assert (run.parent.trace_id, run.parent.span_id) == place(sent)
    assert linked(run) == [place(sent)]


def test_baggage_travels_too(spans: InMemorySpanExporter) -> None:
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        Charge.perform_async(7)
    finally:
        context.detach(token)
    runs(spans)

    assert seen == ["acme"]


def test_a_job_on_the_event_loop_is_inside_its_span(spans: InMemorySpanExporter) -> None:
    ChargeOnLoop.perform_async(7)
    (run,) = runs(spans)

    assert seen == [f"{place(run)[0]:032x}"]


def test_a_push_from_asyncio_code_is_a_part_of_what_it_is_made_in(
    spans: InMemorySpanExporter,
) -> None:
    async def handler() -> None:
        with trace.use_span(REQUEST):
            await Charge.aio.perform_async(7)

    asyncio.run(handler())

    (sent,) = named(spans, "send billing")
    assert sent.parent == REQUEST.get_span_context()


def test_a_push_after_a_commit_is_a_part_of_what_asked_for_it(
    spans: InMemorySpanExporter,
) -> None:
    with Session(create_engine("sqlite://")) as session:
        session.begin()
        with trace.use_span(REQUEST):
            Charge.after_commit(session).perform_async(7)
        session.commit()

    (sent,) = named(spans, "send billing")
    assert sent.parent == REQUEST.get_span_context()


def test_each_run_of_a_retried_job_links_to_the_one_push_and_has_its_error(
    spans: InMemorySpanExporter, raw: redis.Redis
) -> None:
    Charge.perform_async(-1)
    with EmbeddedWorker(concurrency=2):
        eventually(lambda: is_dead(raw))
    found = named(spans, "process billing")

    (sent,) = named(spans, "send billing")
    assert [linked(run) for run in found] == [[place(sent)]] * 3
    assert [attributes(run)["qik.job.attempt"] for run in found] == [1, 2, 3]
    assert [attributes(run)["qik.job.outcome"] for run in found] == ["retry", "retry", "dead"]
    for run in found:
        assert run.status.status_code is StatusCode.ERROR
        assert run.status.description == "ValueError: no invoice -1"
        assert attributes(run)["error.type"] == "ValueError"
        assert [each.name for each in run.events] == ["exception"]
    assert attributes(found[2])["qik.job.then"] == "dead"


def test_a_job_that_discards_itself_is_no_error(spans: InMemorySpanExporter) -> None:
    Charge.perform_async(0)
    (run,) = runs(spans)

    assert run.status.status_code is StatusCode.UNSET
    assert attributes(run)["qik.job.outcome"] == "discarded"


def test_a_push_that_redis_does_not_take_is_an_error_of_its_span(
    spans: InMemorySpanExporter,
) -> None:
    settings.use(Settings(redis="redis://127.0.0.1:1/0"))
    with pytest.raises(NotEnqueued):
        Charge.perform_async(7)

    (sent,) = spans.get_finished_spans()
    assert sent.status.status_code is StatusCode.ERROR
    assert attributes(sent)["error.type"] == "NotEnqueued"


@pytest.mark.parametrize(
    "given",
    ["", "00-zz-zz-01", 7, ["00"], {"a": 1}, None, "00-" + "0" * 32 + "-" + "0" * 16 + "-01"],
)
def test_a_context_that_is_none_leaves_a_run_without_a_link(
    given: object, spans: InMemorySpanExporter, raw: redis.Redis
) -> None:
    job = {"class": Charge.definition.name, "args": [7], "jid": "j1", "queue": "billing"}
    raw.sadd("queues", "billing")
    raw.lpush("queue:billing", json.dumps({**job, "traceparent": given, "baggage": given}))
    (run,) = runs(spans)

    assert not run.links
    assert attributes(run)["qik.job.outcome"] == "done"


def test_a_context_that_ruby_wrote_is_linked_to(
    spans: InMemorySpanExporter, raw: redis.Redis
) -> None:
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    job = {"class": Charge.definition.name, "args": [7], "jid": "j1", "queue": "billing"}
    raw.sadd("queues", "billing")
    raw.lpush("queue:billing", json.dumps({**job, "traceparent": f"00-{trace_id}-{span_id}-01"}))
    (run,) = runs(spans)

    (link,) = run.links
    assert f"{link.context.trace_id:032x}-{link.context.span_id:016x}" == f"{trace_id}-{span_id}"


class Broken(Sampler):
    """Raises, as code of users may."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        raise RuntimeError("sampler")

    def get_description(self) -> str:
        return "broken"


def test_a_tracer_that_raises_loses_no_push_and_no_run(raw: redis.Redis) -> None:
    told: list[BaseException] = []
    hooks.on_error(lambda error, about: told.append(error))
    opentelemetry.instrument(tracer_provider=TracerProvider(Broken(), shutdown_on_exit=False))
    try:
        assert Charge.perform_async(7)
        with EmbeddedWorker(concurrency=1):
            eventually(lambda: seen)
        eventually(lambda: len(told) >= 2)
    finally:
        opentelemetry.uninstrument()
        hooks.clear()

    assert {str(each) for each in told} == {"sampler"}
    assert raw.zcard("dead") == 0


def test_lines_carry_the_ids_of_the_active_span(
    spans: InMemorySpanExporter,
) -> None:
    record = logging.makeLogRecord({"msg": "x", "levelno": logging.INFO})
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("t").start_as_current_span("web") as span:
        JobFields().filter(record)
    outside = logging.makeLogRecord({"msg": "x", "levelno": logging.INFO})
    JobFields().filter(outside)
    said = json.loads(Json().format(record))

    assert said["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert "trace_id" not in vars(outside)
    assert said["span_id"] == f"{span.get_span_context().span_id:016x}"


def test_a_pass_that_fails_is_an_error_of_its_span(spans: InMemorySpanExporter) -> None:
    with tracing.passing("Items", ("a", "b")) as ended:
        ended(PassEnd("failed", failed=True, reason="no rows", error=ValueError("no rows")))
    with tracing.passing("Items", ("a",)) as ended:
        ended(PassEnd("failed", failed=True, reason="3 rows cannot travel"))

    failed, broken = named(spans, "pass Items")
    assert [each.name for each in failed.events] == ["exception"]
    assert failed.status.description == "ValueError: no rows"
    assert broken.status.description == "3 rows cannot travel"
    assert "messaging.destination.name" not in attributes(failed)


def test_the_page_names_every_span_and_attribute(
    spans: InMemorySpanExporter, raw: redis.Redis
) -> None:
    Charge.perform_async(-1)
    Charge.perform_bulk([(1,)])
    with EmbeddedWorker(concurrency=2):
        eventually(lambda: raw.zcard("retry") and len(named(spans, "process billing")) == 2)
    with tracing.passing("Items", ("billing",)) as ended:
        ended(PassEnd("gated", failed=False, reason="full", counts={"scanned": 7, "told": 7}))

    page = PAGE.read_text(encoding="utf-8").partition("## Sentry")[0]
    told = set(re.findall(r"^\| `([\w.<>]+)` \|", page, re.MULTILINE))
    kinds = set(re.findall(r"^\| `(\w+) <\w+>` \|", page, re.MULTILINE))
    found = {name for span in spans.get_finished_spans() for name in attributes(span)}
    assert {each.name.split()[0] for each in spans.get_finished_spans()} == kinds
    assert {documented(name) for name in found} == told


def documented(name: str) -> str:
    """Return the name of an attribute as the page has it."""
    if name in ("qik.pass.outcome", "qik.pass.reason"):
        return name
    name = re.sub(r"^qik\.codes\..+", "qik.codes.<code>", name)
    return re.sub(r"^qik\.pass\..+", "qik.pass.<count>", name)
