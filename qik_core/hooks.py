"""What an application is told of: the life of its worker process, the errors in it, and the deaths of jobs.

    @on("startup")
    def connect() -> None: ...

    @on_error
    def report(error: BaseException, context: Mapping[str, Any]) -> None: ...

    @on_death
    def page(job: Payload, error: BaseException | None) -> None: ...

A function that is given twice is called once. One that raises is logged and hinders nobody, except at startup, where it
ends the process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

from qik_core.errors import DefinitionError
from qik_core.payload import Payload

log: Final = logging.getLogger("qik_core.hooks")


class Event(StrEnum):
    """What happens in the life of a worker process, as Sidekiq names it."""

    STARTUP = "startup"  # before the first fetch
    QUIET = "quiet"  # no more jobs are fetched
    SHUTDOWN = "shutdown"  # told to stop; running jobs have their time
    EXIT = "exit"  # the last thing before the process ends
    HEARTBEAT = "heartbeat"  # the first beat, and the first after Redis forgot this process
    BEAT = "beat"  # every beat


ErrorHandler = Callable[[BaseException, Mapping[str, Any]], object]
DeathHandler = Callable[[Payload, BaseException | None], object]
E = TypeVar("E", bound=Callable[[], object])
H = TypeVar("H", bound=ErrorHandler)
D = TypeVar("D", bound=DeathHandler)

_BACKWARDS: Final = frozenset({Event.QUIET, Event.SHUTDOWN, Event.EXIT})
_events: dict[Event, list[Callable[[], object]]] = {event: [] for event in Event}
_errors: list[ErrorHandler] = []
_deaths: list[DeathHandler] = []


def on(event: Event | str) -> Callable[[E], E]:
    """Call the function at each such event; at quiet, shutdown and exit the last one registered is called first.

    Raises:
        DefinitionError: no such event; or not callable.
    """
    try:
        functions = _events[Event(event)]
    except ValueError:
        names = ", ".join(Event)
        raise DefinitionError(f"there is no event {event!r:.80}; there are: {names}") from None

    def register(function: E) -> E:
        _add(functions, function)
        return function

    return register


def on_error(handler: H) -> H:
    """Call the handler with every error of a job or of the worker, and with what was going on.

    Raises:
        DefinitionError: not callable.
    """
    _add(_errors, handler)
    return handler


def on_death(handler: D) -> D:
    """Call the handler with every job that will not be retried any more, and with the error; None for a poisonous job.

    Raises:
        DefinitionError: not callable.
    """
    _add(_deaths, handler)
    return handler


def fire(event: Event) -> None:
    """Tell of an event. Raises what a function raises at startup only."""
    functions = _events[event]
    for function in reversed(functions) if event in _BACKWARDS else list(functions):
        try:
            function()
        except BaseException as error:
            if event is Event.STARTUP:
                raise
            report(error, {"event": event.value})


def report(error: BaseException, context: Mapping[str, Any]) -> None:
    """Tell the error handlers. Never raises."""
    for handler in tuple(_errors):
        try:
            handler(error, context)
        except BaseException:
            log.exception("an error handler raised")


def defect(part: str, error: BaseException) -> None:
    """Log an error that no part of a worker should meet, and tell the error handlers. Never raises, nor waits for them."""
    log.error("the %s met a defect; it goes on", part, exc_info=error)
    if _errors:
        threading.Thread(target=report, args=(error, {"part": part}), daemon=True).start()


def died(job: Payload, error: BaseException | None) -> None:
    """Tell the death handlers. Never raises."""
    for handler in tuple(_deaths):
        try:
            handler(job, error)
        except BaseException as raised:  # noqa: BLE001 - user code; it is reported
            report(raised, {"job": job.class_name, "jid": job.jid, "handler": "death"})


def clear() -> None:
    """Forget all functions, for tests."""
    for functions in _events.values():
        functions.clear()
    _errors.clear()
    _deaths.clear()


def _add(functions: list[Any], function: Any) -> None:
    if not callable(function):
        raise DefinitionError(f"{function!r:.80} is no function: write the handler below @on_…")
    if function not in functions:
        functions.append(function)
