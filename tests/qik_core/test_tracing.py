from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest
import redis

from qik_core import Job, hooks, registry, settings, tracing
from qik_core.embedding import EmbeddedWorker
from qik_core.errors import NotEnqueued
from qik_core.passes import Passes
from qik_core.payload import Payload
from qik_core.settings import Settings
from qik_core.store import Store
from qik_core.tracing import Answered, PassEnd, RunSpan
from tests.fresh import fresh
from tests.waiting import eventually

ran: list[int] = []

with registry.scope():

    class Traced(Job, queue="traced", retry=5, unique_for=timedelta(hours=1)):
        def perform(self, number: int) -> None:
            ran.append(number)
            if number < 0:
                raise ValueError("no")


@pytest.fixture(autouse=True)
def _redis(redis_url: str) -> Iterator[None]:
    Store(redis_url, birth_ms=0).look()  # no hold at the start of a new epoch
    settings.use(Settings(redis=redis_url, queues=(("traced", 1),)))
    ran.clear()
    with registry.scope():
        registry.register(Traced.definition)
        yield
    for tracer in tracing.installed:
        tracing.remove(tracer)
    hooks.clear()
    settings.use(None)


class Noted:
    """A tracer that keeps what it is told."""

    def __init__(self, name: str = "", fields: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.given = fields or {}
        self.notes: list[str] = []

    def fields(self) -> Mapping[str, Any]:
        return self.given

    @contextmanager
    def _around(self, what: str) -> Iterator[None]:
        self.notes.append(f"{self.name}{what}")
        try:
            yield
        except Exception as error:
            self.notes.append(f"{self.name}raised {type(error).__name__}")
            raise
        self.notes.append(f"{self.name}left")

    @contextmanager
    def pushing(
        self, job: str, queue: str, *, bulk: bool
    ) -> Iterator[Callable[[Answered], object]]:
        with self._around(f"push {job} {queue} {bulk}"):
            yield lambda answers: self.notes.append(f"{len(answers.codes)} answers")

    @contextmanager
    def running(self, job: Payload, queue: str, attempt: int) -> Iterator[RunSpan]:
        with self._around(f"run {job.class_name} {queue} {attempt}"):
            yield self

    @contextmanager
    def passing(
        self, reconciler: str, queues: Sequence[str]
    ) -> Iterator[Callable[[PassEnd], object]]:
        with self._around(f"pass {reconciler} {' '.join(queues)}"):
            yield lambda end: self.notes.append(end.outcome)

    def failed(self, error: BaseException, then: str) -> None:
        self.notes.append(f"failed {type(error).__name__}: {then.partition(' ')[0]}")

    def ended(self, how: str) -> None:
        self.notes.append(f"ended {how}")

    def flush(self) -> None:
        self.notes.append("flushed")


class Broken(Noted):
    """A tracer that fails wherever it can."""

    def fields(self) -> Mapping[str, Any]:
        raise RuntimeError("fields")

    @contextmanager
    def _around(self, what: str) -> Iterator[None]:
        yield
        raise RuntimeError(what.partition(" ")[0])

    def ended(self, how: str) -> None:
        raise SystemExit(how)


def installed(tracer: Noted) -> Noted:
    tracing.install(tracer)
    return tracer


def payload(raw: redis.Redis) -> dict[str, Any]:
    (found,) = raw.lrange("queue:traced", 0, -1)
    decoded: dict[str, Any] = json.loads(found)
    return decoded


def test_a_push_is_surrounded_and_what_it_answered_is_told() -> None:
    tracer = installed(Noted())
    name = Traced.definition.name
    Traced.perform_async(1)
    Traced.perform_bulk([(2,), (3,)])

    pushes = [f"push {name} traced False", "1 answers", "left"]
    assert tracer.notes == [*pushes, f"push {name} traced True", "2 answers", "left"]


def test_a_push_that_redis_does_not_take_is_told_as_it_ends() -> None:
    tracer = installed(Noted())
    settings.use(Settings(redis="redis://127.0.0.1:1/0"))
    with pytest.raises(NotEnqueued):
        Traced.perform_async(1)
    with pytest.raises(NotEnqueued):
        Traced.perform_bulk([(1,)])

    assert tracer.notes[1::2] == ["raised NotEnqueued"] * 2


def test_runs_are_surrounded_with_their_failures_and_their_ends(raw: redis.Redis) -> None:
    tracer = installed(Noted())
    name = Traced.definition.name
    Traced.perform_bulk([(1,), (-1,)])
    tracer.notes.clear()
    with EmbeddedWorker(concurrency=1):
        eventually(lambda: raw.zcard("retry") and int(raw.get("stat:processed") or 0) == 2)

    run = f"run {name} traced 1"
    failed = [run, "failed ValueError: retry", "ended retry", "left"]
    assert tracer.notes == [run, "ended done", "left", *failed, "flushed"]


def test_a_pass_is_surrounded_and_its_rows_carry_the_fields(raw: redis.Redis) -> None:
    tracer = installed(Noted(fields={"note": "pass"}))
    seam = Passes()
    with seam.passing("Items", ("traced",)) as ended:
        seam.push(Traced, [(1,)])
        ended(PassEnd("completed", failed=False))

    assert tracer.notes == ["pass Items traced", "completed", "left"]
    assert payload(raw)["note"] == "pass"


def test_the_first_tracer_is_the_outermost() -> None:
    first, second = installed(Noted("1 ")), installed(Noted("2 "))
    second.notes = first.notes
    Traced.perform_async(1)

    name = Traced.definition.name
    assert [each for each in first.notes if "answers" not in each] == [
        f"1 push {name} traced False",
        f"2 push {name} traced False",
        "2 left",
        "1 left",
    ]


def test_fields_that_are_no_json_stop_no_push_and_are_reported(
    raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    installed(Noted(fields={"baggage": object()}))

    Traced.perform_async(1)

    assert "baggage" not in payload(raw)
    assert caplog.messages == ["the tracer met a defect; it goes on"]


def test_the_fields_of_a_tracer_replace_none_of_the_jobs_own(raw: redis.Redis) -> None:
    given = dict.fromkeys(("qik", "jid", "queue", "class", "args", "retry"), "theirs")
    installed(Noted(fields={**given, "created_at": 0, "enqueued_at": 0, "traceparent": "00-…"}))
    Traced.perform_async(1)

    found = payload(raw)
    assert "theirs" not in found.values()
    assert found["created_at"] > 0
    assert found["enqueued_at"] > 0
    assert found["traceparent"] == "00-…"


def test_what_a_tracer_raises_is_reported_and_hinders_nobody(raw: redis.Redis) -> None:
    told: list[str] = []
    hooks.on_error(lambda error, about: told.append(str(error)))
    installed(Broken())
    assert Traced.perform_async(1)
    with EmbeddedWorker(concurrency=1):
        eventually(lambda: len(told) >= 4)

    assert sorted(told) == ["done", "fields", "push", "run"]
    assert (ran, raw.zcard("dead"), raw.zcard("retry")) == ([1], 0, 0)


def test_a_tracer_that_was_removed_is_asked_no_more() -> None:
    tracer = installed(Noted())
    tracing.install(tracer)
    tracing.remove(tracer)
    Traced.perform_async(1)

    assert tracer.notes == []


# --- what it costs those who have none ---------------------------------------------------------


@contextmanager
def called() -> Iterator[set[str]]:
    """The functions of the seam and of what fills it that threads call which begin meanwhile."""
    found: set[str] = set()

    def profile(frame: FrameType, event: str, _argument: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and (
            file.endswith("qik_core/tracing.py") or "qik_core/contrib/" in file
        ):
            found.add(frame.f_code.co_qualname)

    threading.setprofile(profile)
    try:
        yield found
    finally:
        threading.setprofile(None)


def pushes() -> None:
    """Push, alone and many, as an application and as a pass."""
    Traced.perform_async(1)
    Traced.perform_bulk([(2,), (3,)])
    Passes().push(Traced, [(4,)])


def everything(url: str, *, traced: bool) -> list[str]:
    """Push and run, and return what was called of the seam."""
    settings.use(Settings(redis=url, queues=(("traced", 1),)))
    registry.register(Traced.definition)
    if traced:
        installed(Noted())
    with called() as found:
        thread = threading.Thread(target=pushes)
        thread.start()
        thread.join()
        with EmbeddedWorker(concurrency=1):
            eventually(lambda: len(ran) == 4)
    return sorted(found)


def untraced(url: str) -> list[str]:
    return everything(url, traced=False)


def traced(url: str) -> list[str]:
    return everything(url, traced=True)


def test_without_a_tracer_neither_a_push_nor_a_run_calls_any_function_of_the_seam(
    redis_url: str,
) -> None:
    assert fresh(untraced, redis_url) == []


def test_with_a_tracer_the_functions_of_the_seam_are_seen(redis_url: str) -> None:
    assert {"pushing", "running", "marked"} <= set(fresh(traced, redis_url))


def test_nothing_of_the_engine_imports_what_fills_the_seam() -> None:
    code = (
        "import sys, qik_core, qik_core.worker, qik_core.passes, reconciler.manager;"
        "print([m for m in sys.modules if m.startswith(('sentry_sdk', 'qik_core.contrib'))])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout == "[]\n"


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [("opentelemetry", "opentelemetry", "otel"), ("sentry", "sentry_sdk", "sentry")],
)
def test_a_tie_to_a_library_that_is_not_installed_says_which_extra_to_install(
    module: str, library: str, extra: str
) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; import qik_core.contrib.{module}"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith(f"pip install 'qik-core[{extra}]'")
