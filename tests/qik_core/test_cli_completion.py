"""What shells complete: asked for as their scripts ask, and in a real bash."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from qik_core import Job, registry, settings
from qik_core.cli import completing
from tests import forks

ROOT = Path(__file__).parents[2]
APP = """
from pathlib import Path
from qik_core import Job
import qik_core

Path("imported").touch()

class Charge(Job): ...
class Check(qik_core.Job): ...
class Chatter: ...
"""

with registry.scope():

    class Completed(Job, queue="billing"):
        def perform(self, number: int) -> None: ...


Complete = Callable[..., list[str]]


@pytest.fixture
def complete(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Complete]:
    """What is offered for the last of these words, as fish asks."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    settings.use(None)
    (tmp_path / "shop.py").write_text(APP)

    def ask(*words: str, url: str = redis_url) -> list[str]:
        environment = {
            **os.environ, "REDIS_URL": url, "QIK_APP": "shop", "_QIK_COMPLETE": "fish_complete",
            "COMP_WORDS": " ".join(("qik", *words)), "COMP_CWORD": words[-1],
        }  # fmt: skip
        told = forks.run(forks.QIK, (), cwd=tmp_path, env=environment)
        assert told.stderr == ""
        return [line.split(",", 1)[-1].split("\t")[0] for line in told.stdout.splitlines() if line]

    yield ask
    settings.use(None)


def offers(lines: list[str], *names: str) -> bool:
    return all(any(name == line for line in lines) for name in names)


def test_commands_verbs_and_options_are_completed(complete: Complete) -> None:
    assert offers(complete("pau"), "pause")
    assert offers(complete("ret"), "retries")
    assert offers(complete("retries", "de"), "delete")
    assert offers(complete("retries", "delete", "--dr"), "--dry-run")
    assert offers(complete("status", "--js"), "--json")


def test_queues_are_those_of_redis(complete: Complete, raw: redis.Redis) -> None:
    raw.sadd("queues", "billing", "build", "low", "bad name; rm")
    assert complete("pause", "b") == ["billing", "build"]
    assert complete("enqueue", "-q", "lo") == ["low"]


def test_a_filter_is_completed_with_keys_queues_and_classes(
    complete: Complete, raw: redis.Redis
) -> None:
    Completed.perform_async(1)
    assert offers(complete("retries", "cl"), "class:")
    assert complete("retries", "list", "class:C") == ["class:Completed"]
    assert complete("queues", "jobs", "queue:b") == ["queue:billing"]
    assert complete("busy", "queue", ":", "b") == ["billing"]  # as bash splits it


def test_job_classes_are_read_in_the_source_and_nothing_is_imported(
    complete: Complete, tmp_path: Path
) -> None:
    assert complete("enqueue", "Ch") == ["Charge", "Check"]
    assert not (tmp_path / "imported").exists()


def test_without_redis_nothing_is_offered_and_nothing_is_said(complete: Complete) -> None:
    assert complete("pause", "b", url="redis://127.0.0.1:1/0") == []
    assert complete("pause", "b", url="no url") == []


def test_a_real_bash_completes_with_what_is_printed_for_it(tmp_path: Path) -> None:
    for prog in ("qik", "reconciler"):
        module = {"qik": "qik_core.cli", "reconciler": "reconciler.cli"}[prog]
        (tmp_path / prog).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (tmp_path / prog).chmod(0o755)
    script = """
eval "$(qik completion bash)"; eval "$(reconciler completion bash)"
COMP_WORDS=(qik pro); COMP_CWORD=1; COMPREPLY=(); _qik_completion qik; echo "${COMPREPLY[@]}"
COMP_WORDS=(reconciler tim); COMPREPLY=(); _reconciler_completion reconciler; echo "${COMPREPLY[@]}"
"""
    path = f"{tmp_path}:{os.environ['PATH']}"
    told = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["processes", "timeline"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str, tmp_path: Path) -> None:
    told = forks.run(forks.QIK, ("completion", shell), cwd=tmp_path, env=os.environ)
    assert told.returncode == 0
    assert f"_QIK_COMPLETE={shell}_complete" in told.stdout


def test_what_no_shell_takes_for_one_word_is_not_offered() -> None:
    assert completing._beginning("", ["a b", "$(x)", "ok", "Billing::Charge"]) == [
        "ok",
        "Billing::Charge",
    ]
