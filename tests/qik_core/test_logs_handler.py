from __future__ import annotations

import errno
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import pytest

from qik_core.logs import Handler
from tests.waiting import eventually

PIPE = 4_096


class Pieces(io.StringIO):
    """A stream that keeps what each write brought, and waits for `go` before it takes anything."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.go = threading.Event()
        self.refuses = 0
        """So many writes fail."""
        self.writers: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def write(self, text: str) -> int:
        self.go.wait(10)
        if self.refuses:
            self.refuses -= 1
            raise OSError(errno.ENOSPC, "of the test")
        self.writers.append(threading.current_thread().name)
        self.meanwhile()
        self.pieces.append(text)
        return len(text)

    @property
    def lines(self) -> list[str]:
        return "".join(self.pieces).splitlines()


@pytest.fixture
def stream() -> Pieces:
    return Pieces()


@pytest.fixture
def log(stream: Pieces) -> Iterator[logging.Logger]:
    logger, handler = logging.getLogger("test_logs_handler"), Handler(stream)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    stream.go.set()
    logger.removeHandler(handler)


def test_nobody_waits_for_a_line_to_be_written(stream: Pieces, log: logging.Logger) -> None:
    log.info("one")

    assert stream.pieces == []
    stream.go.set()
    eventually(lambda: stream.lines == ["one"])


def test_a_warning_is_out_when_its_call_returns_behind_what_waits(
    stream: Pieces, log: logging.Logger
) -> None:
    stream.go.set()
    for number in range(100):
        log.info("%s", number)
    log.warning("last")

    assert stream.lines == [*map(str, range(100)), "last"]


def test_each_piece_has_whole_lines_and_is_no_larger_than_a_pipe_takes_at_once(
    stream: Pieces, log: logging.Logger
) -> None:
    for number in range(400):
        log.info("%s %s", number, "é" * (number % 90))
    log.info("x" * 10_000)
    stream.go.set()
    log.warning("last")

    assert all(piece.endswith("\n") for piece in stream.pieces)
    assert all(
        len(piece.encode()) <= PIPE for piece in stream.pieces if len(piece.splitlines()) > 1
    )
    assert len(stream.pieces) < 100
    assert len(stream.lines) == 402


def test_lines_of_many_threads_are_all_written_each_whole_and_in_its_threads_order(
    stream: Pieces, log: logging.Logger
) -> None:
    stream.go.set()

    def write(name: str) -> None:
        for number in range(500):
            log.info("%s %d", name, number)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.warning("z 0")

    lines = sorted((line.split() for line in stream.lines[:-1]), key=lambda parts: parts[0])
    for _, own in groupby(lines, key=lambda parts: parts[0]):
        assert [int(number) for _, number in own] == list(range(500))
    assert len(lines) == 8 * 500


def test_what_nobody_takes_makes_those_wait_who_write_more(
    stream: Pieces, log: logging.Logger
) -> None:
    """Lines do not take memory for ever: beyond 10,000 a call waits for up to a second, as for a stream that hangs."""
    waited = threading.Event()

    def write() -> None:
        for number in range(13_000):
            log.info("%s", number)
        waited.set()

    threading.Thread(target=write, daemon=True).start()
    assert not waited.wait(0.3)
    stream.go.set()
    assert waited.wait(30)


def test_lines_that_a_stream_did_not_take_are_counted_and_the_others_come_without_another_line(
    stream: Pieces, log: logging.Logger
) -> None:
    log.info("first")
    stream.refuses = 2
    for number in range(50):
        log.info("%d %s", number, "x" * PIPE)
    stream.go.set()

    eventually(lambda: len(stream.lines) == 50)
    (told,) = (at for at, line in enumerate(stream.lines) if "missing" in line)
    assert stream.lines[told] == "up to 2 lines are missing here: they could not be written"
    numbers = [int(line.split()[0]) for line in stream.lines if "x" in line]
    assert numbers == list(range(1, 50))


def test_who_warns_writes_no_more_than_was_there_then(stream: Pieces, log: logging.Logger) -> None:
    more = iter(range(200))

    def another() -> None:
        if next(more, None) is not None:
            log.info("more")

    stream.meanwhile = another
    stream.go.set()
    log.warning("one")

    assert stream.writers.count(threading.current_thread().name) <= 1
    eventually(lambda: len(stream.lines) == 201)


ENDS = """
import logging, os
from qik_core import logs
logs.set_up("INFO")
for number in range(2_000):
    logging.info("line %d", number)
logs.finish()
os._exit(0)
"""

FORKS = """
import logging, os
from qik_core import logs
logs.set_up("INFO")
logging.info("before")
if os.fork() == 0:
    logging.info("inside")
    os._exit(0)
os.wait()
logging.info("after")
logs.finish()
os._exit(0)
"""


@pytest.mark.parametrize(
    ("program", "said"),
    [(ENDS, [f"line {n}" for n in range(2_000)]), (FORKS, ["after", "before", "inside"])],
)
def test_a_process_that_ends_at_once_and_one_that_was_forked_lose_and_double_no_line(
    program: str, said: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert sorted(line.split(" ", 3)[3] for line in done.stderr.splitlines()) == sorted(said)
