"""`assert_idempotent`: a job that runs twice has the effects of one run."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pprint import pformat
from typing import Any

from qik_core.client import definition_of
from qik_core.definition import Definition
from qik_core.testing.fakes import fake
from qik_core.testing.modes import is_active
from qik_core.testing.running import EnqueuedJob, Loop, runnable


def assert_idempotent(job: object, *args: Any, observe: Callable[[], Any], **kwargs: Any) -> None:
    """Perform a job twice, as a worker does whose first run was not settled, and compare what `observe` says after each.

    `observe` returns the effects as plain data: rows, sent mails, calls of a stand-in. Both runs have the same jid and
    arguments and go through the server middleware. Jobs that they push stay in memory unless a mode is on.

    Raises:
        AssertionError: the second run changed something; shows what.
        Exception: what the job raised, with a note that says in which run.
    """
    __tracebackhide__ = True
    definition = definition_of(job)
    once = _job(definition, definition.arguments.bind(args, kwargs))
    with _some_mode():
        _perform(once, "first")
        first = deepcopy(observe())
        _perform(once, "second")
        second = observe()
    if first != second:
        raise AssertionError(
            f"{once} is not idempotent: after a second run of the same job there is\n{_diff(first, second)}\n"
            "A worker that dies before it has settled a job makes it run again: look for the effect first, or make "
            "it under a key of its own"
        )


def _job(definition: Definition, row: tuple[Any, ...]) -> EnqueuedJob:
    raw = definition.build([row], 0.0).payloads[0]
    return EnqueuedJob.of(raw, definition.queue, None)


def _perform(job: EnqueuedJob, which: str) -> None:
    loop = Loop()
    try:
        runnable(job, loop.wait).perform()
    except BaseException as error:
        error.add_note(f"in the {which} of two runs of assert_idempotent")
        raise
    finally:
        loop.close()


@contextmanager
def _some_mode() -> Iterator[None]:
    if is_active():
        yield
    else:
        with fake():
            yield


def _diff(first: Any, second: Any) -> str:
    lines = difflib.unified_diff(
        pformat(first).splitlines(),
        pformat(second).splitlines(),
        "after the first run",
        "after the second run",
        lineterm="",
        n=2,
    )
    return "\n".join(lines) or f"{first!r}\nand then\n{second!r}"
