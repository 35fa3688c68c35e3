"""`reconciler drill` refuses what it must not break, before it starts anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import forks

REFUSED: dict[str, tuple[list[str], int, str]] = {
    "a fault that there is not": (
        ["--faults", "freese"],
        2,
        "there is no fault 'freese': did you mean freeze?",
    ),
    "a Redis that is named and not meant": (
        ["--redis-url", "redis://cache/0"],
        3,
        "say --i-mean-it beside --redis-url",
    ),
    "a Redis that does not answer": (
        ["--redis-url", "redis://127.0.0.1:1/0", "--i-mean-it"],
        4,
        "Redis at redis://127.0.0.1:1/0 did not answer",
    ),
    "rows of the databases in the settings": (
        ["--app", "shop.jobs"],
        3,
        "a drill of shop.jobs works off the rows of the databases that the settings name",
    ),
    "an application that is not there": (
        ["--app", "nowhere", "--database-url", "sqlite:///new.db"],
        2,
        "there is no module 'nowhere'",
    ),
    "a database that does not answer": (
        ["--database-url", "postgresql+psycopg://127.0.0.1:1/shop"],
        5,
        "127.0.0.1",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_drilled_is_refused_with_its_own_exit_code(
    what: str, tmp_path: Path
) -> None:
    words, code, said = REFUSED[what]
    environment = {**os.environ, "DATABASE_URL": "postgresql://db/production"}

    done = forks.run(forks.RECONCILER, ["drill", *words], cwd=tmp_path, env=environment)

    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".qik").exists()
