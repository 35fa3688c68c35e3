"""Runs as processes note them: what others still write is read line by line, and nothing twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qik_core import Payload
from reconciler.drill.harness import PREFIX, Notes, Noting
from reconciler.drill.runs import Runs

UNIQUE = "a" * 22


def job(jid: str = "1" * 24) -> Payload:
    return Payload({"qik": f"{UNIQUE}S3600", "jid": jid, "queue": "q", "class": "X", "args": []})


def test_a_run_is_noted_when_it_begins_and_when_it_ends(tmp_path: Path) -> None:
    runs = Runs(tmp_path, 0.0)
    noting = Noting(Notes(tmp_path))

    def inner(_: Payload) -> None:
        runs.look()
        assert [run.key for run in runs.under_way()] == [UNIQUE]
        assert runs.under_way(os.getpid() + 1) == []

    noting(job(), inner)
    runs.look()

    (run,) = runs.all()
    assert (run.key, run.jid, run.pid, run.outcome) == (UNIQUE, "1" * 24, os.getpid(), "ok")
    assert run.ended is not None
    assert run.started <= run.ended
    assert runs.parents == {os.getpid(): os.getppid()}
    assert runs.ended_well == {UNIQUE}


def test_a_run_that_raises_is_noted_with_what_it_raised_and_raises_on(tmp_path: Path) -> None:
    runs = Runs(tmp_path, 0.0)

    def inner(_: Payload) -> None:
        raise KeyError("as asked")

    with pytest.raises(KeyError):
        Noting(Notes(tmp_path))(job(), inner)
    runs.look()

    assert [run.outcome for run in runs.all()] == ["KeyError"]
    assert runs.ended_well == set()


def test_a_line_that_is_half_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    runs, path = Runs(tmp_path, 10.0), tmp_path / f"{PREFIX}7.jsonl"
    line = '["begin", "n", "k", "j", 12.5]\n'

    path.write_text(line[:10])
    runs.look()
    assert runs.all() == ()
    path.write_text(line)
    runs.look()
    runs.look()

    (run,) = runs.all()
    assert (run.key, run.jid, run.pid, run.started) == ("k", "j", 7, 2.5)
    assert runs.started_since(2.0) == {"k": 2.5}
    assert runs.started_since(2.5) == {}
