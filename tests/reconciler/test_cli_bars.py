from __future__ import annotations

import pytest

from reconciler.cli import bars
from reconciler.rebuilt import Progress

HALF = Progress(scanned=500, total=1_000, enqueued=480, seconds=5.0, rate=100.0, eta=5.0)
NOTED = Progress(
    scanned=700, total=None, enqueued=680, seconds=7.0, rate=100.0, eta=None,
    waits="the queue [is] full", notes=("Items is in shadow: it tells nothing",),
)  # fmt: skip


def test_where_nobody_looks_at_a_terminal_it_is_a_line_now_and_then_and_each_note_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with bars.bar() as show:
        for seen in (HALF, HALF, NOTED, NOTED):
            show(seen)

    assert capsys.readouterr().err.splitlines() == [
        "rebuild: 500 of 1,000 (50%) rows, 480 told now, 100 rows/s, 5.0 s left",
        "Items is in shadow: it tells nothing",
    ]


def test_on_a_terminal_it_is_a_bar_with_the_notes_above_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with bars._drawn() as show:
        for seen in (HALF, NOTED, NOTED):
            show(seen)

    said = capsys.readouterr().err
    assert said.count("Items is in shadow: it tells nothing") == 1
    assert "700 rows, 680 told now, 100 rows/s, waits: the queue [is] full" in said
