from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from qik_core.client import Client
from qik_core.errors import ArgumentError, NotEnqueued, OutcomeUnknown
from qik_core.middleware import ClientResult, Next
from qik_core.payload import Payload
from qik_core.plan import Plan
from qik_core.results import Code
from qik_core.settings import Settings
from qik_core.store import Chunk, Pushed, Sending, Store
from tests.faultproxy import FaultProxy, is_script
from tests.qik_core.jobs_of_tests import TakesInt
from tests.qik_core.pushing import store

__all__ = ["store"]

ROWS = [(1,), (2,), (3,)]


class Told(Sending):
    """A chunk on its way that says when its answer is read."""

    def __init__(self, real: Sending, tell: Callable[[str], object]) -> None:
        self._real = real
        self._tell = tell

    def answer(self) -> Pushed:
        self._tell("answer")
        return self._real.answer()


class Watched(Store):
    """A store on a real Redis that tells in which order things happen."""

    def __init__(self, url: str, events: list[str]) -> None:
        super().__init__(url)
        self.events = events

    def send(self, chunk: Chunk, **more: Any) -> Sending:
        self.events.append("send")
        return Told(super().send(chunk, **more), self.events.append)


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def watched(redis_url: str, events: list[str]) -> Iterator[Client]:
    def builds(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        events.append(f"build {job.args[0]}")
        return call_next(job.replace(queue="wrong") if job.args[0] == -2 else job)

    store = Watched(redis_url, events)
    yield Client(store, Settings(client_middleware=(builds,)))
    store.close()


def test_the_next_batch_is_built_while_redis_works_at_the_last_one(
    watched: Client, events: list[str]
) -> None:
    answered = watched.bulk(TakesInt.definition, ROWS, Plan(), batch_size=1)

    assert events == [
        *("build 1", "send"),
        *("build 2", "answer", "send"),
        *("build 3", "answer", "send"),
        "answer",
    ]
    assert answered.codes == [Code.ENQUEUED] * 3
    assert len({*answered.jids}) == 3


def test_no_answer_is_left_unread_while_an_iterator_makes_the_next_rows(
    watched: Client, events: list[str], raw: redis.Redis
) -> None:
    waiting = []

    def rows() -> Iterator[tuple[int]]:
        for row in ROWS:
            waiting.append(raw.llen("queue:ints"))
            yield row

    watched.bulk(TakesInt.definition, rows(), Plan(), batch_size=1)

    assert waiting == [0, 1, 2]
    assert events == [f"{each}" for n in (1, 2, 3) for each in (f"build {n}", "send", "answer")]


def test_nothing_is_sent_behind_a_batch_that_failed(
    watched: Client, events: list[str], raw: redis.Redis
) -> None:
    raw.set("queue:wrong", "not a list")

    with pytest.raises(NotEnqueued, match="WRONGTYPE") as caught:
        watched.bulk(TakesInt.definition, [(1,), (-2,), (3,), (4,)], Plan(), batch_size=1)

    assert caught.value.__notes__ == ["perform_bulk: 1 items of earlier batches were written"]
    assert events[-3:] == ["send", "build 3", "answer"]
    assert raw.llen("queue:ints") == 1


def test_an_item_that_cannot_travel_leaves_what_is_on_its_way_written(
    store: Store, raw: redis.Redis
) -> None:
    rows: list[tuple[Any]] = [(1,), (2,), ("three",)]

    with pytest.raises(ArgumentError, match="item 2: "):
        Client(store).bulk(TakesInt.definition, rows, Plan(), batch_size=2)

    assert raw.llen("queue:ints") == 2


def test_a_failure_of_what_is_on_its_way_comes_before_an_item_that_cannot_travel(
    watched: Client, raw: redis.Redis
) -> None:
    raw.set("queue:wrong", "not a list")
    rows: list[tuple[Any]] = [(1,), (-2,), ("three",)]

    with pytest.raises(NotEnqueued, match="WRONGTYPE") as caught:
        watched.bulk(TakesInt.definition, rows, Plan(), batch_size=1)

    assert caught.value.__notes__ == ["perform_bulk: 1 items of earlier batches were written"]


@pytest.mark.parametrize(("later", "answered"), [(5.0, True), (26.0, False)])
def test_a_chunk_whose_answer_is_lost_is_sent_again_also_when_that_is_noticed_late(
    proxy: FaultProxy, raw: redis.Redis, later: float, answered: bool
) -> None:
    """A batch is built or a page read in between. After half a minute nobody knows any more that the chunk was there."""
    clock, store = [100.0], Store(proxy.url)
    proxy.lose(is_script("push"))
    job = Payload({"qik": "-", "jid": "a" * 24, "queue": "ints", "class": "X", "args": []}).encode()

    sending = store.send(
        Chunk(queue="ints", jids=[b"a" * 24], payloads=[job]), now=lambda: clock[0]
    )
    clock[0] += later

    if answered:
        assert sending.answer().codes == [Code.ENQUEUED]
    else:
        with pytest.raises(OutcomeUnknown):
            sending.answer()
    assert raw.llen("queue:ints") == 1
    store.close()
