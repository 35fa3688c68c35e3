"""`make drill`: what it says for the private servers, and what only a person may say."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import drill

ROOT = Path(__file__).parents[1]
COMMAND = ["make", "-C", str(ROOT), "--no-print-directory", "-n", "drill"]


def made(*words: str) -> str:
    """What `make drill` would run."""
    env = {**os.environ, "I_MEAN_IT": "1", "DATABASE_URL": "sqlite:///exported.db"}
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, check=True, env=env
    ).stdout


@pytest.mark.parametrize("name", ["--database-url", "--redis-url"])
def test_what_is_named_is_not_meant_unless_a_person_says_so(name: str) -> None:
    with drill.servers([name, "redis://cache/0"]) as words:
        if words is None:
            pytest.skip("no PostgreSQL on this machine")
        assert drill.MEANT not in words
        assert drill.REDIS not in words


def test_the_private_servers_are_meant() -> None:
    with drill.servers(["--rows", "5"]) as words:
        if words is None:
            pytest.skip("no PostgreSQL or redis-server on this machine")
        assert [words[0], words[2], words[4]] == [drill.DATABASE, drill.REDIS, drill.MEANT]


def test_make_says_it_for_the_one_who_says_it_on_its_command_line() -> None:
    assert "--i-mean-it" not in made()
    assert "--i-mean-it" not in made("DATABASE_URL=sqlite:///shop.db")
    assert "--i-mean-it" not in made("DATABASE_URL=sqlite:///shop.db", "I_MEAN_IT=0")

    said = made("DATABASE_URL=sqlite:///shop.db", "I_MEAN_IT=1")
    assert "--database-url 'sqlite:///shop.db'" in said
    assert "--i-mean-it" in said
