from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest

from qik_core.logs import Line


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
