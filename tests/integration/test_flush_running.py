"""Everything is flushed while real workers run fifty jobs of ten seconds: none of them runs twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.integration.shop import NOTES, Shop, drained
from tests.waiting import eventually

APP = (
    NOTES
    + """
class Slow(Job, unique_for=60, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        time.sleep(10)
        note("end", n)
"""
)


def locked(raw: Any) -> int:
    """Return how many locks there are in this generation."""
    key = b"qik:unique:" + raw.get("qik:epoch").split()[1]
    return sum(field != b"#" for field in raw.hkeys(key))


def reconciler(shop: Shop, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "reconciler.cli", *words],
        cwd=shop.folder,
        env={**shop.environment, "QIK_APP": "shop"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_flush_of_everything_doubles_none_of_fifty_jobs_of_ten_seconds(
    shop: Shop, raw: Any, tmp_path: Path
) -> None:
    shop.environment["DATABASE_URL"] = f"sqlite:///{tmp_path}/home.db"
    reconciler(shop, "upgrade")
    shop.push("Slow", *range(50))
    shop.work("-c", "50")
    eventually(lambda: len(shop.notes("start")) == 50, 60)

    before = raw.get("qik:epoch").split()[1]
    said = json.loads(reconciler(shop, "flush", "--all", "--reason", "a test", "--yes", "--json"))
    assert raw.get("qik:epoch").split()[1] != before, "the locks from before count no more"
    eventually(lambda: locked(raw) == 50, 10, "all locks are asserted again")

    assert said["flushed"]["removed"] == 0
    assert len(shop.notes("end")) == 0, "the flush came too late to prove anything"
    eventually(drained(raw), 60)
    assert shop.runs("start") == shop.runs("end") == Counter(range(50))
