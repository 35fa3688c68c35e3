"""Jobs that do what a test says, and what becomes of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from qik_core import Job, registry
from qik_core.context import Context
from qik_core.deadlines import Deadlines
from qik_core.definition import Definition
from qik_core.middleware import ServerMiddleware
from qik_core.payload import Payload
from qik_core.processor import Processor, Terms
from qik_core.rows import Rows
from qik_core.store.exchange import Fetched, Kind, Other, Outcome

NOW = 1_800_000_000.0
LOCK = "abcdefghijklmnopqrstuvS60"


@pytest.fixture
def own_names() -> Iterator[None]:
    """Let a test define jobs of its own."""
    with registry.scope():
        yield


def job_that(act: Callable[[Job, int], object], **options: Any) -> Definition:
    """A registered job class whose `perform` does this."""

    class Acts(Job, **options):
        def perform(self, n: int) -> None:
            act(self, n)

    return Acts.definition


def started(run: Callable[[], None]) -> None:
    threading.Thread(target=run, daemon=True).start()


def fetched(**fields: Any) -> Fetched:
    whole = {"qik": "-", "jid": "j1", "queue": "low", "class": "Acts", "args": [7], **fields}
    kept = {name: value for name, value in whole.items() if value is not None}
    return Fetched(b"1.1", json.dumps(kept, separators=(",", ":")).encode(), "low")


def processor(
    *,
    middleware: Sequence[ServerMiddleware] = (),
    wait: Callable[..., Any] = lambda *_: None,
    now: float = NOW,
    retries: int = 25,
    rows: Rows | None = None,
    dice: float = 0.0,
) -> Processor:
    return Processor(
        find=registry.find,
        wait=wait,
        now=lambda: now,
        dice=lambda: dice,
        deadlines=Deadlines(started, lambda _: None),
        terms=Terms(middleware, retries=retries, seam=lambda: rows),
    )


def process(
    job: Fetched, *, entered: Callable[[Context], None] = lambda _: None, **given: Any
) -> Outcome:
    return processor(**given).process(job, entered)


def process_later(job: Fetched, later: Callable[[Outcome], None], **given: Any) -> Outcome | None:
    return processor(**given).process(job, lambda _: None, later)


def other(outcome: Outcome, kind: Kind) -> Payload:
    """What stands in the retry or dead set, after a look at the outcome's kind."""
    assert isinstance(outcome, Other)
    assert outcome.kind is kind
    return Payload.decode(outcome.payload) if outcome.payload else Payload({})


def gone(outcome: Outcome, counter: str) -> None:
    """The job is over, not failed, and counted."""
    assert isinstance(outcome, Other)
    assert (outcome.kind, outcome.failed, outcome.counter) == (Kind.GONE, False, counter)


def raising(error: BaseException) -> Callable[[Job, int], object]:
    def act(job: Job, n: int) -> None:
        raise error

    return act
