from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qik_core import logs
from qik_core.context import Context
from qik_core.logs import JobFields, Json, Line, Pretty
from qik_core.payload import Payload


def line(message: str, /, **fields: object) -> str:
    record = logging.makeLogRecord(
        {"msg": message, "levelname": "INFO", "process": 4711, "created": 0.5, "msecs": 500.0}
    )
    vars(record).update(fields)
    return Line().format(record)


def test_a_line_says_when_what_where_and_then_its_fields_in_order() -> None:
    said = line("job done", jid="abc", job="Charge", seconds=0.012)

    assert said == "1970-01-01T00:00:00.500Z INFO 4711 job done jid=abc job=Charge seconds=0.012"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a\nINFO 1 job done", r"a\nINFO 1 job done"),
        ("a\r\tb", r"a\r\tb"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x00\x07\x7f", r"\x00\x07\x7f"),
    ],
)
def test_data_can_write_neither_lines_of_its_own_nor_to_the_terminal(
    value: str, written: str
) -> None:
    assert f" jid={written}" in line("job failed", jid=value)
    assert written in line(value)


@pytest.mark.parametrize("value", ["\x9b31m", "\x85", "\u2028", "\u202e"])
def test_characters_that_only_look_harmless_are_escaped_as_well(value: str) -> None:
    assert value not in line("job failed", jid=value)


def failure(error: BaseException) -> str:
    try:
        raise error  # noqa: TRY301 - the point
    except BaseException:  # noqa: BLE001 - the point
        return line("job failed", exc_info=sys.exc_info())


def test_a_traceback_stands_behind_the_line_of_its_event() -> None:
    said = failure(ValueError("no"))

    assert said.splitlines()[0].endswith("job failed")
    assert said.splitlines()[-1] == "  ValueError: no"


def test_the_message_of_an_error_cannot_pass_for_an_event() -> None:
    said = failure(ValueError("no\n1970-01-01T00:00:00.500Z INFO 4711 job done"))

    assert [text for text in said.splitlines() if text.startswith("1970")] == said.splitlines()[:1]


def test_the_message_of_an_error_writes_nothing_to_the_terminal_either() -> None:
    said = failure(ValueError("\x1b[31mred \x00\x9b"))

    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", said)


def test_a_message_of_100_mb_makes_no_line_of_100_mb() -> None:
    assert len(failure(ValueError("x" * 100_000_000))) < 100_000


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


def test_an_error_that_cannot_print_itself_has_a_line() -> None:
    assert "Unprintable" in failure(Unprintable())


def test_a_lone_surrogate_does_not_end_the_log() -> None:
    code = (
        "import logging; from qik_core import logs; logs.set_up('INFO');"
        "logging.info('x', extra={'jid': '\\ud800'}); logging.info('y')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stderr.count("\n") == 2
    assert r"jid=\ud800" in ended.stderr
    assert "Traceback" not in ended.stderr


# --- other forms -----------------------------------------------------------------


def record(message: str, level: int = logging.INFO, /, **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"msg": message, "levelno": level, "levelname": logging.getLevelName(level), "process": 1}
    )
    vars(made).update({"created": 0.5, "msecs": 500.0, "name": "shop", **fields})
    return made


def test_json_is_one_object_a_line_with_all_fields() -> None:
    text = Json().format(record("job\ndone", jid="a\x1b[31m", seconds=0.5))

    assert "\n" not in text
    assert "\x1b" not in text
    said = json.loads(text)
    assert said["at"] == "1970-01-01T00:00:00.500Z"
    assert (said["event"], said["level"], said["pid"], said["logger"]) == (
        "job\ndone",
        "info",
        1,
        "shop",
    )
    assert (said["jid"], said["seconds"]) == ("a\x1b[31m", 0.5)


def test_json_carries_a_traceback_as_text() -> None:
    try:
        raise ValueError("no")  # noqa: TRY301 - the point
    except ValueError:
        said = json.loads(Json().format(record("job failed", exc_info=sys.exc_info())))

    assert said["trace"].startswith("Traceback")
    assert said["trace"].endswith("ValueError: no")


def test_a_value_that_json_does_not_know_is_written_as_text() -> None:
    said = json.loads(Json().format(record("x", at="never", what={1, 2}, half="\ud800")))

    assert said["what"] == "{1, 2}"
    assert said["at"] == "1970-01-01T00:00:00.500Z"


def test_pretty_has_colours_of_its_own_and_none_of_the_data() -> None:
    said = Pretty().format(record("job failed", logging.ERROR, jid="\x1b[31m"))

    assert said.startswith("00:00:00.500 \x1b[31mERROR")
    assert r"jid=\x1b[31m" in said


def test_auto_is_plain_where_there_is_no_terminal() -> None:
    code = (
        "import logging; from qik_core import logs; logs.set_up('INFO', 'auto'); logging.info('x')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\S+Z INFO \d+ x\n", ended.stderr)


# --- the running job ---------------------------------------------------------------


class Written(logging.Handler):
    """Keeps lines."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        self._worker.lines.append(Line().format(record))


class Worker:
    """A root logger as a worker process has it, and a thread that runs a job."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.running: Context | None = None
        self.handler = Written(self)
        self.handler.addFilter(JobFields(logging.INFO))

    def run(self, code: Callable[[], object], **fields: Any) -> list[str]:
        """Run code as the job would, in a thread of its own; returns what was written meanwhile."""
        payload = Payload({"class": "Charge", "args": [], "jid": "j1", "queue": "q", **fields})

        def work() -> None:
            logs.speak_for(lambda: self.running)
            self.running = Context(payload)
            if "log_level" in fields:
                logs.admit(fields["log_level"])
            code()
            self.running = None

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        said, self.lines = self.lines, []
        return [line.partition("Z ")[2] for line in said]


@pytest.fixture
def worker() -> Iterator[Worker]:
    root, made = logging.getLogger(), Worker()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [made.handler]
    root.setLevel(logging.INFO)
    yield made
    root.handlers[:] = before
    root.setLevel(level)


shop = logging.getLogger("shop.billing")


def test_every_line_of_a_job_carries_its_jid_its_class_and_its_queue(worker: Worker) -> None:
    (said,) = worker.run(lambda: shop.info("charged", extra={"amount": 7}))

    assert said.endswith("charged amount=7 jid=j1 job=Charge queue=q")


def test_lines_outside_of_a_job_carry_nothing(worker: Worker) -> None:
    worker.run(lambda: None)
    shop.info("idle")

    (said,) = worker.lines
    assert said.endswith(" idle")


def test_a_line_that_names_a_job_itself_keeps_what_it_says(worker: Worker) -> None:
    (said,) = worker.run(lambda: shop.info("pushed", extra={"jid": "other"}))

    assert said.endswith("pushed jid=other job=Charge queue=q")


def test_lines_of_the_tasks_that_a_job_starts_carry_them_too(worker: Worker) -> None:
    async def work() -> None:
        await asyncio.create_task(say())

    async def say() -> None:
        shop.info("charged")

    (said,) = worker.run(lambda: asyncio.run(work()))
    assert said.endswith("charged jid=j1 job=Charge queue=q")


def test_a_job_may_ask_for_more_lines_than_others_have(worker: Worker) -> None:
    said = worker.run(lambda: shop.debug("detail"), log_level="debug")
    assert len(said) == 1
    assert worker.run(lambda: shop.debug("detail")) == []
    assert len(worker.run(lambda: shop.info("line"))) == 1


def test_a_job_may_ask_for_fewer_lines_than_others_have(worker: Worker) -> None:
    def work() -> None:
        shop.info("line")
        shop.error("trouble")

    (said,) = worker.run(work, log_level="error")
    assert "trouble" in said


def test_a_logger_with_a_level_of_its_own_keeps_it_whatever_jobs_ask_for(worker: Worker) -> None:
    shop.setLevel(logging.DEBUG)
    try:
        assert len(worker.run(lambda: shop.debug("detail"))) == 1
    finally:
        shop.setLevel(logging.NOTSET)


def test_threads_are_listed_with_their_names_and_the_jobs_that_they_run(worker: Worker) -> None:
    said = worker.run(logs.tell_threads)

    own = [line for line in said if "jid=j1" in line and "number=0x" in line]
    assert own
    assert any("thread_name=MainThread" in line for line in said)
