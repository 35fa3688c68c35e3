"""Traces over real processes: a program that pushes, `reconciler run`, `qik work`, each with an exporter of the SDK to a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from reconciler.engines import Engines
from tests.integration.shop import TENTH
from tests.reconciler import tables
from tests.reconciler.shop import fill
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
APP = """
import json, os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from sqlalchemy import select
from qik_core import Job
from qik_core.contrib import opentelemetry
from reconciler import Reconciler, derive
from tests.reconciler.shop import Item

def line(span):
    return json.dumps(json.loads(span.to_json())) + "\\n"

class Told(Job, queue="work", unique_for=3600):
    def perform(self, item_id: int) -> None: ...

class Pushed(Job, queue="work"):
    def perform(self, number: int) -> None:
        Inner.perform_async(number)

class Inner(Job, queue="work"):
    def perform(self, number: int) -> None: ...

class Items(Reconciler, every=3600):
    pending = derive(Told, select(Item.id).where(Item.state == "pending"))

provider = TracerProvider()
exporter = ConsoleSpanExporter(out=open(f"spans{os.getpid()}", "a"), formatter=line)
provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=60_000))
trace.set_tracer_provider(provider)
opentelemetry.instrument(child=True)
"""
PUSH = """
import shop
with shop.trace.get_tracer("web").start_as_current_span("POST /invoices"):
    shop.Pushed.perform_async(7)
shop.provider.shutdown()
"""
Span = dict[str, Any]


@pytest.fixture
def home(sqlite_url: str) -> Iterator[Engine]:
    engines = Engines({"default": sqlite_url})
    tables.make(engines.home())
    fill(engines.home(), range(1, 4))
    yield engines.home()
    engines.dispose()


class Programs:
    """Processes of one application."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        self._environment = environment

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"log{len(self.started)}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=self.folder, env=self._environment, stderr=log
            )
        self.started.append(process)
        return process

    def end(self) -> None:
        """Ask each to end, as a supervisor does: what it holds back is written then."""
        for process in self.started:
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            process.wait(20)

    def spans(self) -> dict[str, list[Span]]:
        found: dict[str, list[Span]] = {}
        for file in self.folder.glob("spans*"):
            for line in file.read_text().splitlines():
                found.setdefault(json.loads(line)["name"], []).append(json.loads(line))
        return found

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


@pytest.fixture
def programs(tmp_path: Path, home: Engine, sqlite_url: str, redis_url: str) -> Iterator[Programs]:
    (tmp_path / "shop.py").write_text(APP)
    about = {"PYTHONPATH": str(ROOT), "DATABASE_URL": sqlite_url, "REDIS_URL": redis_url}
    programs = Programs(tmp_path, {**os.environ, **TENTH, **about, "QIK_LOG_FORMAT": "json"})
    yield programs
    programs.close()


def trace_of(span: Span) -> str:
    return str(span["context"]["trace_id"])


def of_class(spans: list[Span], name: str) -> list[Span]:
    return [each for each in spans if each["attributes"].get("qik.job.class") == name]


def test_a_request_with_its_jobs_and_a_pass_with_its_jobs_are_each_one_trace_over_processes(
    programs: Programs, raw: Any
) -> None:
    assert programs.start("-c", PUSH).wait(30) == 0
    programs.start("-m", "reconciler.cli", "run", "shop")
    eventually(lambda: raw.llen("queue:work") == 4, 30.0)
    programs.start("-m", "qik_core.cli", "work", "shop", "-q", "work")
    eventually(lambda: int(raw.get("stat:processed") or 0) == 5, 30.0)
    programs.started.pop(0)
    programs.end()

    spans = programs.spans()
    (request,) = spans["POST /invoices"]
    runs = spans["process work"]
    (outer,), (inner,) = of_class(runs, "Pushed"), of_class(runs, "Inner")
    (sent,) = of_class(spans["send work"], "Inner")
    assert trace_of(request) == trace_of(outer) == trace_of(sent) == trace_of(inner)
    assert sent["parent_id"] == outer["context"]["span_id"]
    assert inner["parent_id"] == sent["context"]["span_id"]

    told = min(spans["pass Items"], key=lambda span: str(span["start_time"]))
    assert {trace_of(each) for each in of_class(runs, "Told")} == {trace_of(told)}
    assert len(of_class(runs, "Told")) == 3
    assert told["attributes"]["qik.pass.outcome"] == "completed"
    assert told["attributes"]["qik.pass.enqueued"] == 3
    assert told["attributes"]["qik.pass.scanned"] == 3

    lines = [json.loads(line) for line in (programs.folder / "log2").read_text().splitlines()]
    (done,) = [each for each in lines if each["event"] == "job done" and each["job"] == "Pushed"]
    assert f"0x{done['trace_id']}" == trace_of(request)
    assert f"0x{done['span_id']}" == outer["context"]["span_id"]
