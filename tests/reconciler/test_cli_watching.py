from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from reconciler.passes import Pass, Tools
from tests.reconciler.shop import Item, fill, items

ROOT = Path(__file__).parents[2]


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: what the command calls is tested on each."""
    return sqlite_url


def lines(process: subprocess.Popen[str]) -> Any:
    """Yield what it prints, as it comes."""
    assert process.stdout is not None
    return iter(process.stdout.readline, "")


@pytest.mark.parametrize("how", ["text", pytest.param("json", marks=pytest.mark.slow)])
def test_each_second_it_says_how_many_rows_are_untold_until_ctrl_c(
    home: Engine, tools: Tools, raw: Any, redis_url: str, database_url: str, how: str
) -> None:
    fill(home, range(1, 31))
    definition = items(select(Item.id).where(Item.state == "pending"))
    Pass(definition, tools, 0, lambda: None).run()
    arguments = ["status", "--watch", *(["--json"] if how == "json" else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler.cli", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = lines(process)
        assert _untold(next(said), how) == 0
        raw.flushall()
        line = next(each for each in said if _untold(each, how))
        assert _untold(line, how) == 30
        if how == "text":
            assert line.startswith("untold 30 of 30 pending rows · ")
            assert "Items 30 (waits for its pass)" in line
        Pass(definition, tools, 0, lambda: None).run()
        assert next(each for each in said if not _untold(each, how))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def _untold(line: str, how: str) -> int:
    return int(json.loads(line)["untold"] if how == "json" else line.split()[1])
