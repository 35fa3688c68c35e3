from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import Engine

from tests.reconciler.typing_here import Here, typing_in

WHY = ("--reason", "a test")


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: what the commands call is tested on each."""
    return sqlite_url


@pytest.fixture
def here(
    tmp_path: Path, home: Engine, raw: redis.Redis, redis_url: str, database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Here]:  # fmt: skip
    with typing_in(tmp_path, home, raw, (redis_url, database_url), monkeypatch) as made:
        yield made


def test_jobs_are_kept_in_a_file_and_put_back(here: Here) -> None:
    for each in "abc":
        here.app.Mail.perform_async(each)

    flushed = here.flush("--all", *WHY, "--yes", "--export", "kept.jsonl")
    first = here("import", "kept.jsonl", *WHY)
    second = here("import", "kept.jsonl", "--json")

    assert flushed.exit_code == first.exit_code == second.exit_code == 0
    assert (
        "3 jobs are in kept.jsonl: `reconciler import kept.jsonl` puts them back" in flushed.output
    )
    assert first.output.splitlines()[-1] == "3 of 3 jobs are back (3 Mail)"
    assert json.loads(second.stdout) == {
        "jobs": 3, "put_back": 0, "there": 3, "blocked": {}, "classes": {},
    }  # fmt: skip
    assert here.jobs() == 3


def test_a_file_that_is_there_is_refused_before_anything_is_done(here: Here) -> None:
    (here.folder / "kept").write_text("mine")

    flushed = here.flush("--all", *WHY, "--yes", "--export", "kept")
    exported = here("export", "kept", "--all")

    assert (flushed.exit_code, exported.exit_code) == (3, 3)
    assert (here.folder / "kept").read_text() == "mine"
    assert here.jobs() == 4


def test_a_file_that_cannot_be_written_is_exit_code_2_and_nothing_was_done(here: Here) -> None:
    flushed = here.flush("--all", *WHY, "--yes", "--export", "nowhere/kept")
    exported = here("export", "nowhere/kept", "--all")

    assert (flushed.exit_code, exported.exit_code) == (2, 2)
    assert "nowhere/kept cannot be written: No such file or directory" in flushed.stderr
    assert "nowhere/kept cannot be written" in exported.stderr
    assert here.jobs() == 4


def test_an_export_leaves_jobs_where_they_are(here: Here) -> None:
    result = here("export", "kept", "--class", "Work")
    as_json = here("export", "other", "--queue", "mails", "--json")

    assert (result.exit_code, as_json.exit_code) == (0, 0), result.output
    assert result.output.splitlines()[-1] == "4 jobs are in kept (4 Work); they are in Redis still"
    assert json.loads(as_json.stdout) == {"file": "other", "jobs": 0, "classes": {}}
    assert here.jobs() == 4


def test_an_export_works_without_sql_and_says_that_it_is_not_in_the_audit(here: Here) -> None:
    result = here("export", "kept", "--all", "--database-url", f"sqlite:///{here.folder}/empty.db")

    assert result.exit_code == 0
    assert "not in the audit" in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "line 1"), ('{"a":1}\n', "no header"), (None, "cannot be read")],
    ids=["empty", "foreign", "missing"],
)
def test_a_file_that_is_no_export_is_refused(here: Here, text: str | None, said: str) -> None:
    if text is not None:
        (here.folder / "kept").write_text(text)

    result = here("import", "kept")

    assert result.exit_code == 2
    assert said in result.stderr


def test_a_job_whose_key_is_taken_by_now_is_said(here: Here) -> None:
    here("export", "kept", "--all")
    here.flush("--all", *WHY, "--yes")
    jid = here.app.Work.perform_async(1).jid

    result = here("import", "kept")

    assert "3 of 4 jobs are back (3 Work)" in result.output
    assert f"job {jid} does its work" in result.output
