"""`qik top` on a real server: in a real terminal, and where there is none."""

from __future__ import annotations

import codecs
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from qik_core import cli, settings
from qik_core.api import QueueStats, Stats
from qik_core.cli.glimpse import Glimpse, Rates, View
from qik_core.embedded import Embedded
from tests.waiting import busy, eventually

ROOT = Path(__file__).parents[2]
HEALTHY = "q ends\x1b[K\r\nprocessed"
"""How a screen begins on which nothing is wrong."""


@pytest.fixture(autouse=True)
def _own_settings() -> Iterator[None]:
    yield
    settings.use(None)


def top(*arguments: str) -> Result:
    """Show it where there is no terminal."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        return CliRunner().invoke(cli.main, ["top", "--every", "0.1", *arguments])
    finally:
        signal.signal(signal.SIGTERM, before)


def stats(processed: int = 0, failed: int = 0, **sizes: int) -> Stats:
    queues = {name: QueueStats(name, size, size / 10, paused=False) for name, size in sizes.items()}
    return Stats(
        processed=processed,
        failed=failed,
        busy=0,
        enqueued=sum(sizes.values()),
        scheduled=0,
        retries=0,
        dead=0,
        processes=0,
        queues=queues,
    )


class Terminal:
    """`qik top` in a terminal of its own."""

    def __init__(self, url: str) -> None:
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (20, 200))
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.process = subprocess.Popen(
            [sys.executable, "-m", "qik_core.cli", "top", "--redis-url", url],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.text = ""
        # A piece may end in the middle of a character.
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def shows(self, text: str) -> bool:
        """Whether this was shown since it was asked for last."""
        while select.select([self.ours], [], [], 0)[0]:
            self.text += self.decoder.decode(os.read(self.ours, 65_536))
        found = text in self.text
        if found:
            self.text = ""
        return found

    def types(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(10)
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal(redis_url: str) -> Iterator[Terminal]:
    terminal = Terminal(redis_url)
    yield terminal
    terminal.close()


def test_it_shows_queues_in_a_terminal_and_ends_on_q(terminal: Terminal, raw: redis.Redis) -> None:
    raw.sadd("queues", "billing")
    raw.lpush("queue:billing", *["{}"] * 12)
    eventually(lambda: terminal.shows("billing  12"), 30)
    raw.lpush("queue:billing", "{}")
    eventually(lambda: terminal.shows("billing  13"), 30)
    terminal.types("q")
    assert terminal.process.wait(30) == 0
    assert terminal.shows("\x1b[?1049l")
    assert termios.tcgetattr(terminal.theirs) == terminal.before


@contextmanager
def interrupts(handler: signal.Handlers) -> Iterator[None]:
    """What is started meanwhile inherits it if SIGINT is ignored, as by a shell that runs a script in the background."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_ctrl_c_ends_it_however_it_was_started_and_leaves_the_terminal_as_it_was(
    redis_url: str, handler: signal.Handlers
) -> None:
    with interrupts(handler):
        terminal = Terminal(redis_url)
    with closing(terminal):
        eventually(lambda: terminal.shows("processed"), 30)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(30) == 0
        assert terminal.shows("\x1b[?1049l")
        assert termios.tcgetattr(terminal.theirs) == terminal.before


def test_it_says_within_3_seconds_that_redis_is_away_and_goes_on_by_itself(
    terminal: Terminal, redis_server: Embedded
) -> None:
    eventually(lambda: terminal.shows("processed"), 30)
    redis_server.kill()
    began = time.monotonic()
    eventually(lambda: terminal.shows("NO ANSWER"), 30)
    assert time.monotonic() - began < 3 * busy()
    redis_server.start()
    eventually(lambda: terminal.shows(HEALTHY), 30)


def test_a_redis_that_falls_silent_is_told_of_within_3_seconds(
    terminal: Terminal, redis_server: Embedded
) -> None:
    eventually(lambda: terminal.shows("processed"), 30)
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        eventually(lambda: terminal.shows("NO ANSWER"), 30)
        assert time.monotonic() - began < 3 * busy()
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)
    eventually(lambda: terminal.shows(HEALTHY), 30)


def test_without_a_terminal_each_look_is_a_line(redis_url: str, raw: redis.Redis) -> None:
    raw.sadd("queues", "billing")
    raw.lpush("queue:billing", "{}", "{}")
    told = top("-n", "2", "--redis-url", redis_url)
    assert told.exit_code == 0
    assert len(told.stdout.splitlines()) == 2
    assert "queued 2" in told.stdout
    assert "\x1b" not in told.stdout


def test_as_json_each_look_is_an_object(redis_url: str, raw: redis.Redis) -> None:
    raw.sadd("queues", "billing")
    raw.set("stat:processed", 7)
    first, second = map(
        json.loads, top("-n2", "--json", "--redis-url", redis_url).stdout.splitlines()
    )
    assert (first["processed"], first["error"]) == (7, None)
    assert second["queues"] == {"billing": {"queued": 0, "latency": 0.0, "paused": False}}


def test_a_redis_that_is_away_is_said_and_is_exit_4_at_the_end() -> None:
    told = top("-n", "1", "--redis-url", "redis://127.0.0.1:1/0")
    assert told.exit_code == 4
    assert "127.0.0.1:1" in told.stderr


def test_rates_are_those_of_the_last_looks() -> None:
    rates = Rates()
    for second in range(10):
        rates.saw(stats(processed=100 * second, failed=second), float(second))
    assert (rates.processed, rates.failed) == (100.0, 1.0)


def test_totals_that_were_reset_make_no_negative_rate() -> None:
    rates = Rates()
    rates.saw(stats(processed=1000), 0.0)
    rates.saw(stats(processed=5), 1.0)
    rates.saw(stats(processed=10), 2.0)
    assert rates.processed == 5.0


def test_as_json_the_deepest_queues_are_there_and_how_many_there_are() -> None:
    many = {f"q{number}": number for number in range(300)}
    told = View("redis://here", Rates(), Glimpse(stats(**many), (), 0.0)).as_json()
    assert (len(told["queues"]), told["queues_of"]) == (250, 300)
    assert next(iter(told["queues"])) == "q299"


def test_the_deepest_queue_comes_first_and_a_small_screen_is_not_left() -> None:
    many = {f"q{number}": number for number in range(100)}
    view = View("redis://here", Rates(), Glimpse(stats(**many), (), 0.0))
    lines = view.lines(30, 12)
    assert len(lines) <= 12
    assert all(len(line) <= 30 for line in lines)
    assert next(line for line in lines if line.startswith("q9")).split()[0] == "q99"
