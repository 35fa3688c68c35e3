"""The processes of a drill: one that ends by itself is noticed, whichever it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from reconciler.drill.errors import ProcessFailed
from reconciler.drill.processes import Process, Surroundings, running
from tests.waiting import eventually

WAITS = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(7)); print('waits'); signal.pause()"


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path, "app", "redis://nowhere", {}, (), 1.0, 5.0)


def failed(process: Process) -> str:
    try:
        process.check()
    except ProcessFailed as error:
        return str(error)
    return ""


def test_a_process_that_ends_by_itself_is_told_with_the_end_of_its_log(
    around: Surroundings,
) -> None:
    process = Process("pusher", [sys.executable, "-c", "print('no such table')"], around)

    with running([process]):
        said = eventually(lambda: failed(process))

    assert said.startswith("pusher ended by itself, so this drill proves nothing")
    assert "no such table" in said


def test_one_that_was_asked_to_stop_is_judged_by_its_exit_code(around: Surroundings) -> None:
    process = Process("pusher", [sys.executable, "-uc", WAITS], around)

    with running([process]):
        eventually(lambda: "waits" in process.tail())
        process.check()
        process.ask_to_stop()

        assert process.wait() == 7
        process.check()
