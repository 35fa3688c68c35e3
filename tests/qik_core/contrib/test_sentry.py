"""Sentry's own SDK, and an HTTP server that takes its envelopes."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
import sentry_sdk

from qik_core import Enqueued, Job, hooks, registry, tracing
from qik_core.contrib import sentry
from qik_core.embedding import EmbeddedWorker
from qik_core.outcomes import Discard
from qik_core.tracing import PassEnd
from tests.waiting import eventually

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "tracing.md"
SECRET = "4111-1111-1111-1111"
ran: list[str] = []

with registry.scope():

    class Pay(Job, queue="billing", retry=1):
        def perform(self, card: str) -> None:
            ran.append(card)
            self.charge(card)

        def charge(self, card: str) -> None:
            copied = card
            if copied == "gone":
                raise Discard("the customer is gone")
            raise ValueError("refused by the bank")

    class PayExpected(Job, queue="billing", retry=1, discard_on=(ValueError,)):
        def perform(self, card: str) -> None:
            ran.append(card)
            raise ValueError("refused by the bank")

    class PaySecond(Job, queue="billing"):
        def perform(self, number: int) -> None:
            ran.append("second")

    class PayFirst(Job, queue="billing"):
        def perform(self, number: int) -> None:
            PaySecond.perform_async(number)


JOBS = (Pay, PayExpected, PayFirst, PaySecond)
Item = tuple[dict[str, Any], dict[str, Any]]


class Server(ThreadingHTTPServer):
    """Keeps what Sentry's ingestion would be sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Ingestion)
        self.items: list[Item] = []
        self.bytes = b""

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the items of this kind: event, transaction."""
        sentry_sdk.flush(5)
        return [body for header, body in self.items if header["type"] == kind]

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self.server_address[1]}/1"


class Ingestion(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        self.server.bytes += raw
        _, *lines = raw.splitlines()
        texts = [json.loads(line) for line in lines if line]
        self.server.items += list(zip(texts[::2], texts[1::2], strict=True))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    sentry_sdk.init(
        dsn=server.dsn,
        traces_sample_rate=1.0,
        include_source_context=False,
    )
    yield server
    sentry.uninstrument()
    sentry_sdk.get_client().close(timeout=2)
    sentry_sdk.get_global_scope().set_client(None)
    hooks.clear()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


def work_until(done: Callable[[], object]) -> None:
    with EmbeddedWorker(concurrency=1):
        eventually(done)


def dead(raw: redis.Redis) -> bool:
    """Whether a job is dead; retries are due at once."""
    for member, _ in raw.zscan_iter("retry"):
        raw.zadd("retry", {member: 0}, xx=True)
    return bool(raw.zcard("dead"))


def message(event: dict[str, Any]) -> str:
    return str(event["exception"]["values"][-1]["value"])


def test_a_failure_is_reported_once_when_no_retry_is_left(server: Server, raw: redis.Redis) -> None:
    sentry.instrument()
    pushed = Pay.perform_async(SECRET)
    assert isinstance(pushed, Enqueued)
    work_until(lambda: dead(raw))

    (event,) = server.of("event")
    assert len(ran) == 2
    assert message(event) == "refused by the bank"
    assert event["transaction"] == Pay.definition.name
    tags = {name: event["tags"][name] for name in ("job", "jid", "queue", "attempt", "then")}
    assert tags == {
        "job": Pay.definition.name,
        "jid": pushed.jid,
        "queue": "billing",
        "attempt": 2,
        "then": "dead",
    }


def test_each_failure_is_reported_where_that_is_asked_for(server: Server, raw: redis.Redis) -> None:
    sentry.instrument(retried=True)
    Pay.perform_async(SECRET)
    work_until(lambda: dead(raw))

    assert [each["tags"]["attempt"] for each in server.of("event")] == [1, 2]


def test_no_argument_of_a_job_leaves_the_process(server: Server, raw: redis.Redis) -> None:
    sentry.instrument(retried=True)
    Pay.perform_async(SECRET)
    work_until(lambda: dead(raw))

    assert len(server.of("event")) == 2
    assert SECRET.encode() not in server.bytes


def test_arguments_are_sent_where_that_is_asked_for(server: Server, raw: redis.Redis) -> None:
    sentry.instrument(arguments=True)
    Pay.perform_async(SECRET)
    work_until(lambda: dead(raw))

    (event,) = server.of("event")
    assert event["contexts"]["qik"]["args"] == [SECRET]
    frames = event["exception"]["values"][-1]["stacktrace"]["frames"]
    assert SECRET in frames[-1]["vars"]["card"]


@pytest.mark.parametrize(("job", "card"), [(Pay, "gone"), (PayExpected, "any")])
def test_what_a_job_discards_is_not_reported(
    job: type[Pay], card: str, server: Server, raw: redis.Redis
) -> None:
    sentry.instrument(retried=True)
    job.perform_async(card)
    work_until(lambda: int(raw.get("stat:processed") or 0))

    assert ran == [card]
    assert server.of("event") == []


def test_a_run_and_what_it_pushes_go_on_with_the_trace_of_the_push(server: Server) -> None:
    sentry.instrument()
    with sentry_sdk.start_transaction(op="http.server", name="POST /invoices") as request:
        PayFirst.perform_async(7)
    work_until(lambda: "second" in ran)

    traces = {each["transaction"]: each["contexts"]["trace"] for each in server.of("transaction")}
    assert set(traces) == {"POST /invoices", PayFirst.definition.name, PaySecond.definition.name}
    assert {each["trace_id"] for each in traces.values()} == {request.trace_id}
    assert traces[PayFirst.definition.name]["op"] == "queue.process"
    assert traces[PayFirst.definition.name]["data"]["messaging.destination.name"] == "billing"


@pytest.mark.parametrize("given", [None, 7, "x", [], {"sentry-trace": 7}, {"sentry-trace": "zz"}])
def test_headers_that_are_none_hinder_no_run(
    given: object, server: Server, raw: redis.Redis
) -> None:
    sentry.instrument()
    job = {"class": PaySecond.definition.name, "args": [7], "jid": "j1", "queue": "billing"}
    raw.sadd("queues", "billing")
    raw.lpush("queue:billing", json.dumps({**job, "trace_propagation_headers": given}))
    work_until(lambda: ran)

    eventually(lambda: server.of("transaction"))


def test_what_is_no_job_is_reported_once(server: Server, raw: redis.Redis) -> None:
    sentry.instrument()
    raw.sadd("queues", "billing")
    raw.lpush("queue:billing", b"{")
    work_until(lambda: raw.zcard("dead"))

    (event,) = server.of("event")
    assert event["exception"]["values"][-1]["type"] == "MalformedPayload"
    assert event["tags"]["queue"] == "billing"


def test_a_poisonous_job_is_reported_though_no_run_has_an_error(
    server: Server, raw: redis.Redis
) -> None:
    sentry.instrument()
    job = {"class": PaySecond.definition.name, "args": [7], "jid": "j1", "queue": "billing"}
    raw.sadd("queues", "billing")
    raw.lpush("queue:billing", json.dumps({**job, "deaths": 3}))
    work_until(lambda: raw.zcard("dead"))

    (event,) = server.of("event")
    assert "poisonous" in event["logentry"]["message"] if "logentry" in event else event["message"]
    assert event["tags"]["jid"] == "j1"


@pytest.mark.parametrize("arguments", [False, True])
def test_the_report_of_a_poisonous_job_has_its_arguments_only_where_they_are_asked_for(
    arguments: bool, server: Server, raw: redis.Redis
) -> None:
    sentry_sdk.init(dsn=server.dsn, attach_stacktrace=True, include_source_context=False)
    sentry.instrument(arguments=arguments)
    job = {"class": Pay.definition.name, "args": [SECRET], "jid": "j1", "queue": "billing"}
    raw.sadd("queues", "billing")
    raw.lpush("queue:billing", json.dumps({**job, "deaths": 3}))
    work_until(lambda: raw.zcard("dead"))

    (event,) = server.of("event")
    assert (SECRET.encode() in server.bytes) is arguments
    assert bool(event["threads"]["values"]) is arguments


def test_without_init_nothing_travels_and_nothing_hinders(raw: redis.Redis) -> None:
    sentry.instrument()
    try:
        PaySecond.perform_async(7)
        (payload,) = raw.lrange("queue:billing", 0, -1)
        work_until(lambda: ran)
    finally:
        sentry.uninstrument()
        hooks.clear()

    assert b"trace_propagation_headers" not in payload


def test_a_pass_that_fails_of_an_error_is_reported_with_its_reconciler(server: Server) -> None:
    sentry.instrument()
    with tracing.passing("Items", ("billing",)) as ended:
        ended(PassEnd("failed", failed=True, error=ValueError("no table"), counts={"scanned": 7}))

    (event,) = server.of("event")
    assert message(event) == "no table"
    assert event["tags"] == {"reconciler": "Items"}
    assert event["contexts"]["pass"] == {"queues": ["billing"], "outcome": "failed", "scanned": 7}


def test_the_page_names_every_tag(server: Server, raw: redis.Redis) -> None:
    sentry.instrument()
    Pay.perform_async(SECRET)
    work_until(lambda: dead(raw))
    with tracing.passing("Items", ("billing",)) as ended:
        ended(PassEnd("failed", failed=True, error=ValueError("no table")))

    page = PAGE.read_text(encoding="utf-8").partition("### Tags\n")[2]
    told = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert {name for event in server.of("event") for name in event["tags"]} == told
