from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from qik_core.errors import StoreUnavailable
from qik_core.flushing import Flushing
from qik_core.passes import Passes
from reconciler.audit import read
from reconciler.export import Journal
from reconciler.switches.acts import Order, Switcher
from reconciler.switches.settling import By
from tests.reconciler.flushes import RUBY, dumps
from tests.reconciler.typing_here import Here, typing_in
from tests.waiting import eventually

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


# --- dry runs ------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_happen_and_changes_nothing(here: Here) -> None:
    before = dumps(here.raw)

    result = here.flush("--all", "--dry-run")

    assert result.exit_code == 0, result.output
    head, line, *rest = result.output.splitlines()
    assert head.split()[:4] == ["class", "queue", "queued", "scheduled"]
    assert line.split()[:3] == ["Work", "work", "4"]
    assert line.split()[-3:] == ["3", "1", "-"]
    assert rest[0].startswith("4 jobs: 3 re-derivable, 1 stale, 0 would be lost. Redis uses ")
    assert rest[-1] == "dry run: nothing was changed"
    assert dumps(here.raw) == before
    assert read(here.home, 0.0) == []


def test_a_dry_run_that_finds_what_would_be_lost_ends_with_exit_code_1(here: Here) -> None:
    here.app.Mail.perform_async("a")
    here.raw.lpush("queue:work", RUBY % (1, 1))

    result = here.flush("--all", "--dry-run")

    assert result.exit_code == 1
    assert "Mail: 1 would be lost: no reconciler tells it" in result.output
    assert "left alone: 0 other jobs of ours, 1 of others" in result.output
    assert here.flush("--all", "--dry-run", "--lose", "Mail").exit_code == 0


def test_what_stands_in_redis_commands_no_terminal(here: Here) -> None:
    here.app.Mail.perform_async("a")
    [mail] = here.raw.lrange("queue:mails", 0, 0)
    here.raw.lpush("queue:mails", mail.replace(b'"Mail"', b'"\\u001b[2J\\u202e:100:Mail"'))

    shown = here.flush("--all", "--dry-run")

    assert "\\x1b[2J\\u202e:100:Mail" in shown.output
    assert not set("\x1b\u202e") & set(shown.output)
    named = here.flush("--class", "Mali", "--dry-run")
    assert named.exit_code == 2
    assert not set("\x1b\u202e") & set(named.output)


def test_json_is_one_object(here: Here) -> None:
    here.app.Mail.perform_async("a")

    report = json.loads(here.flush("--all", "--dry-run", "--json").stdout)

    assert report["plan"]["rederivable"] == 3
    assert report["plan"]["would_lose"] == {"Mail": {"jobs": 1, "why": "no reconciler tells it"}}
    assert {line["class"]: line["queued"] for line in report["plan"]["lines"]} == {
        "Mail": 1,
        "Work": 4,
    }
    assert report["flushed"] is None


# --- the flush -----------------------------------------------------------------------------------


def test_a_flush_says_what_it_did_and_what_that_has_freed(here: Here) -> None:
    result = here.flush("--all", *WHY, "--yes")

    assert result.exit_code == 0, result.output
    assert "flushed 4 jobs in " in result.output
    assert "3 re-derivable, 1 stale, 0 that nothing else brings back" in result.output
    assert "memory: " in result.output
    assert here.jobs() == 0
    begun, _ = read(here.home, 0.0)
    assert begun.reason == "a test"
    assert "@" in begun.who


def test_json_of_a_flush_has_plan_and_outcome(here: Here) -> None:
    report = json.loads(here.flush("--all", *WHY, "--yes", "--json").stdout)

    assert report["flushed"]["classes"] == {"Work": {"rederivable": 3, "stale": 1}}
    assert report["flushed"]["memory"]["before"] > 0


def test_what_would_be_lost_is_refused_with_exit_code_3(here: Here) -> None:
    here.app.Mail.perform_async("a")

    result = here.flush("--all", *WHY, "--yes")
    as_json = here.flush("--all", *WHY, "--yes", "--json")

    assert (result.exit_code, as_json.exit_code) == (3, 3)
    assert "nothing brings back 1 of these jobs, so they would be lost" in result.stderr
    assert "--lose Mail" in result.stderr
    assert "would be lost" in json.loads(as_json.stdout)["refused"]
    assert here.jobs() == 5


def test_a_class_that_is_named_is_lost(here: Here) -> None:
    here.app.Mail.perform_async("a")

    assert here.flush("--all", *WHY, "--yes", "--lose", "Mail").exit_code == 0
    assert here.jobs() == 0


def test_a_class_goes_and_nothing_else(here: Here) -> None:
    here.app.Mail.perform_async("a")

    assert here.flush("--class", "Work", *WHY, "--yes").exit_code == 0
    assert here.raw.llen("queue:mails") == 1
    assert here.raw.llen("queue:work") == 0


def test_nothing_is_flushed_where_nothing_is_meant(here: Here) -> None:
    result = here.flush("--class", "Mail", *WHY, "--yes")

    assert (result.exit_code, result.output.splitlines()[-1]) == (
        0,
        "no job is meant: nothing to flush",
    )
    assert read(here.home, 0.0) == []


def test_a_class_of_which_all_jobs_run_or_none_is_there_may_be_named(here: Here) -> None:
    here.app.Mail.perform_async("a")
    (raw,) = here.raw.lrange("queue:mails", 0, -1)
    here.raw.hset("qik:working:host:1:abc", mapping={"#": "1:1", "1.0": raw})
    here.raw.delete("queue:mails")

    running = here.flush("--all", *WHY, "--yes", "--lose", "Mail")
    here.raw.delete("qik:working:host:1:abc")
    none = here.flush("--all", *WHY, "--yes", "--lose", "Mail")

    assert (running.exit_code, none.exit_code) == (0, 0), running.output + none.output


def test_a_file_that_a_flush_left_unfinished_is_finished_also_when_no_job_is_left(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.app.Mail.perform_async("a")
    words = ("--class", "Mail", *WHY, "--yes", "--export", "kept")
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "finish", lambda _: (_ for _ in ()).throw(KeyboardInterrupt()))
        assert here.flush(*words).exit_code == 1
    assert not (here.folder / "kept").exists()
    assert here.raw.llen("queue:mails") == 0

    again = here.flush(*words)

    assert again.exit_code == 0, again.output
    assert "1 jobs are in kept" in again.output
    assert here("import", "kept").exit_code == 0
    assert here.raw.llen("queue:mails") == 1


def test_behind_a_switch_of_this_moment_a_flush_says_that_it_waits(here: Here) -> None:
    Switcher(here.home, Passes()).disable(Order(flag="disable_work", by=By("ann", "a storm")))

    result = here.flush("--class", "Work", *WHY, "--yes")

    assert result.exit_code == 0, result.output
    assert "this waits until every process goes by them" in result.stderr


# --- people --------------------------------------------------------------------------------------


def test_where_nobody_can_confirm_a_flush_is_refused(here: Here) -> None:
    result = here.flush("--all", *WHY)

    assert result.exit_code == 3
    assert "Add --yes" in result.stderr
    assert here.jobs() == 4


@pytest.mark.parametrize(
    ("words", "word"),
    [(["--all"], "all"), (["--class", "Work"], "Work"), (["--queue", "work"], "work"), (["--set", "queued"], "queued")],
)  # fmt: skip
def test_a_person_writes_what_is_flushed(
    here: Here, monkeypatch: pytest.MonkeyPatch, words: list[str], word: str
) -> None:
    monkeypatch.setattr("reconciler.cli.flush._is_person", lambda: True)

    refused = here.flush(*words, *WHY, typed="yes\n")
    assert refused.exit_code == 3
    assert here.jobs() == 4

    assert here.flush(*words, *WHY, typed=f"{word}\n").exit_code == 0
    assert here.jobs() == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dry-run"], "say which jobs: --all"),
        (["--all", "--class", "Work", "--dry-run"], "say which jobs: --all"),
        (["--all", "--put-back", "--dry-run"], "say which jobs: --all"),
        (["--all", "--yes"], "--reason"),
        (["--all", "--yes", "--reason", "  "], "--reason"),
        (["--class", "Wrk", "--dry-run"], "did you mean 'Work'"),
        (["--queue", "wrk", "--dry-run"], "did you mean 'work'"),
        (["--set", "all", "--dry-run"], "queued"),
        (["--tenant", "x", "--dry-run"], "no reconciler says whose its rows are"),
        (["--all", "--lose", "Mial", "--yes", *WHY], "there is no job of a class 'Mial'"),
    ],
)
def test_what_cannot_be_meant_is_exit_code_2(here: Here, words: list[str], said: str) -> None:
    result = here.flush(*words)

    assert result.exit_code == 2
    assert said in result.stderr
    assert here.jobs() == 4


# --- what is not there ---------------------------------------------------------------------------


def test_without_an_application_no_class_is_known_and_all_would_be_lost(
    here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from qik_core import registry
    from reconciler import registry as reconcilers

    (tmp_path / "broken_app.py").write_text("1 / 0")
    with registry.scope(empty=True), reconcilers.scope():
        reconcilers._definitions.clear()
        reconcilers._telling.clear()
        monkeypatch.delenv("QIK_APP")
        nameless = here.flush("--all", "--dry-run")
        broken = here.flush("--all", "--dry-run", "--app", "broken_app")
        refused = here.flush("--all", *WHY, "--yes", "--app", "broken_app")
        kept = here.flush("--all", *WHY, "--yes", "--export", "kept")

    assert (nameless.exit_code, broken.exit_code, refused.exit_code) == (1, 1, 3)
    assert (
        "No class is known, so nothing counts as re-derivable: no application is named"
        in nameless.output
    )
    assert "Work: 4 would be lost: no imported module defines it" in nameless.output
    assert "ZeroDivisionError" in broken.output
    assert kept.exit_code == 0, kept.output
    assert here("import", "kept").exit_code == 0
    assert here.jobs() == 4


def test_redis_that_does_not_answer_is_exit_code_4(here: Here) -> None:
    result = here.flush("--all", "--dry-run", "--redis-url", "redis://127.0.0.1:1/0")

    assert result.exit_code == 4


def test_a_database_without_our_tables_is_exit_code_5_and_nothing_was_done(
    here: Here, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/empty.db"
    result = here.flush("--queue", "mails", "--put-back", *WHY)
    assert result.exit_code == 2

    result = here.flush("--all", "--lose", "Work", *WHY, "--yes", "--database-url", url)

    assert result.exit_code == 5, result.output
    assert "reconciler upgrade" in result.stderr
    assert here.jobs() == 4


def test_a_flush_that_is_cut_short_says_how_to_go_on(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(error: BaseException) -> Any:
        def sort(*_: object) -> None:
            raise error

        return sort

    with monkeypatch.context() as patched:
        patched.setattr(Flushing, "_sort", cut(StoreUnavailable("Redis is gone")))
        lost = here.flush("--all", *WHY, "--yes")
        patched.setattr(Flushing, "_sort", cut(KeyboardInterrupt()))
        stopped = here.flush("--all", *WHY, "--yes")
    half = here.flush("--all", "--dry-run")
    back = here.flush("--put-back", *WHY)

    assert (lost.exit_code, stopped.exit_code) == (4, 1)
    assert "run the same command again" in lost.stderr
    assert "stopped" in stopped.stderr
    assert "a flush ended half-way: 4 jobs are aside" in half.output
    assert back.exit_code == 0, back.output
    assert here.jobs() == 4


def test_a_flush_that_sigkill_has_ended_goes_on_when_it_is_typed_again(here: Here) -> None:
    here.app.Mail.perform_bulk([(str(n),) for n in range(6_000)])
    words = ["flush", "--all", *WHY, "--yes", "--export", "kept"]
    first = subprocess.Popen(
        [sys.executable, "-m", "reconciler.cli", *words],
        cwd=here.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    eventually(lambda: here.raw.exists("qik:aside"), 60)
    first.kill()
    first.wait()
    assert here.raw.exists("qik:aside")
    assert not (here.folder / "kept").exists()

    again = here(*words)
    back = here("import", "kept")

    assert again.exit_code == 0, again.output
    assert not here.raw.exists("qik:aside", "qik:flusher")
    assert "6,000 of 6,000 jobs are back" in back.output
    assert here.raw.llen("queue:mails") == 6_000
