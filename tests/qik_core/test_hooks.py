from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from qik_core import hooks
from qik_core.errors import DefinitionError
from qik_core.hooks import Event, fire, on
from qik_core.payload import Payload
from tests.waiting import eventually

JOB = Payload({"class": "X", "args": [], "jid": "j1"})


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    hooks.clear()


def test_functions_are_called_in_their_order_and_backwards_when_it_ends() -> None:
    seen: list[str] = []
    for event in Event:
        on(event)(lambda event=event: seen.append(f"{event} 1"))
        on(event.value)(lambda event=event: seen.append(f"{event} 2"))
    for event in (Event.STARTUP, Event.BEAT, Event.QUIET, Event.SHUTDOWN, Event.EXIT):
        fire(event)

    order = {seen[i].split()[0]: [seen[i][-1], seen[i + 1][-1]] for i in range(0, len(seen), 2)}
    assert order == {
        "startup": ["1", "2"],
        "beat": ["1", "2"],
        "quiet": ["2", "1"],
        "shutdown": ["2", "1"],
        "exit": ["2", "1"],
    }


def test_a_function_given_twice_is_called_once() -> None:
    seen: list[int] = []

    def once() -> None:
        seen.append(1)

    assert on("startup")(on("startup")(once)) is once
    fire(Event.STARTUP)
    assert seen == [1]


def test_an_event_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(DefinitionError, match="startup, quiet, shutdown"):
        on("start")


def test_only_startup_lets_an_error_through() -> None:
    seen: list[str] = []
    hooks.on_error(lambda error, context: seen.append(f"{error} at {context['event']}"))

    def fail() -> None:
        raise ValueError("no database")

    on("startup")(fail)
    on("shutdown")(fail)
    with pytest.raises(ValueError, match="no database"):
        fire(Event.STARTUP)
    fire(Event.SHUTDOWN)
    assert seen == ["no database at shutdown"]


def test_an_error_handler_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    hooks.on_error(lambda *_: 1 / 0)
    hooks.report(ValueError("x"), {})
    assert "an error handler raised" in caplog.text


def test_a_death_handler_that_raises_is_reported_with_the_job() -> None:
    seen: list[object] = []
    hooks.on_error(lambda _, context: seen.append(context["jid"]))
    hooks.on_death(lambda *_: 1 / 0)
    hooks.died(JOB, None)
    assert seen == ["j1"]


def test_a_handler_may_register_another_one() -> None:
    seen: list[str] = []

    def first(error: BaseException, context: object) -> None:
        hooks.on_error(lambda *_: seen.append("second"))
        seen.append("first")

    hooks.on_error(first)
    hooks.report(ValueError(), {})
    assert seen == ["first"]


@pytest.mark.parametrize(
    "register", [on("startup"), hooks.on_error, hooks.on_death], ids=["on", "on_error", "on_death"]
)
def test_what_is_no_function_is_refused(register: Callable[[Any], object]) -> None:
    with pytest.raises(DefinitionError, match="is no function"):
        register("page the person on call")


def test_a_defect_of_the_worker_is_logged_and_told_without_waiting_for_the_handler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[object] = []
    gate = threading.Event()

    @hooks.on_error
    def slow(error: BaseException, context: Mapping[str, Any]) -> None:
        gate.wait(10)
        seen.append((str(error), context["part"]))

    hooks.defect("poller", ValueError("no such place"))
    assert "the poller met a defect" in caplog.text
    assert seen == []
    gate.set()
    eventually(lambda: seen == [("no such place", "poller")])
