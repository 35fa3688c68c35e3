"""What commands print with: a line that says how far something is."""

from __future__ import annotations

import sys

import pytest

from qik_core.cli import screen


def test_the_line_of_progress_is_gone_before_an_error_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "_OFTEN", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def fail() -> None:
        with screen.progress(4) as say:
            say("read", 1)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()

    assert capsys.readouterr().err == "\r1 of 4 (25%) read\x1b[K\r\x1b[K"


def test_progress_says_no_more_than_all_where_more_came_meanwhile(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "_SELDOM", 0.0)

    with screen.progress(4) as say:
        say("read", 5)
    with screen.progress() as say:
        say("read", 5)

    assert capsys.readouterr().err == "5 of 4 (100%) read\n5 read\n"


def test_on_paper_a_table_is_what_a_very_wide_screen_would_show(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        ("\u4e00\u4e8c\u4e09", "[/b] :100: \x1b[2J", ""),
        ("x" * 1_200, "", "é"),
        ("b", "7", "c" * 40),
    ]
    screen.table(("wide", "what", "no"), rows)
    paper = capsys.readouterr().out

    monkeypatch.setenv("COLUMNS", "2000")
    screen._on_screen(
        ("wide", "what", "no"), [[screen.plain(each, 1_000) for each in row] for row in rows]
    )

    assert paper == capsys.readouterr().out
    assert paper.count("\n") == 4
