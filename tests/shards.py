"""`make test-all SHARD=i/n`: which tests the i-th of n machines runs, so that all end at about the same time.

Every test is in exactly one shard. The longest are dealt out first, each to the shard that has least so far, by how long
they took when `durations.json` was written; the same tests and the same file give the same shards on every machine.

    make test-all ARGS=--write-durations      writes the file anew, from what this run took
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

DURATIONS: Final = Path(__file__).with_name("durations.json")
FAST, SLOW = 0.3, 20.0
"""Seconds that are taken for a test that the file does not know."""
_KEPT: Final = 1.0
"""Tests shorter than this are not worth a line."""
_REPEATED: Final = re.compile(r"-\d+\]$")


class Shard(NamedTuple):
    """One of so many, counted from 1."""

    number: int
    of: int


def read(text: str) -> Shard:
    """Return the shard that `3/8` names.

    Raises:
        UsageError: it names none.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise pytest.UsageError(f"SHARD={text}: use i/n with 1 ≤ i ≤ n, as in SHARD=3/8")
    return Shard(int(found[1]), int(found[2]))


def same(test: str) -> str:
    """Return the name that all repetitions of a test share: what stands in brackets, without a last number."""
    return _REPEATED.sub("]", test)


def deal(tests: Mapping[str, float], shards: int) -> list[list[str]]:
    """Deal tests out by their seconds. Raises nothing; a shard may stay empty when there are fewer tests than shards."""
    hands: list[list[str]] = [[] for _ in range(shards)]
    totals = [0.0] * shards
    for test in sorted(tests, key=lambda each: (-tests[each], _stable(each))):
        least = totals.index(min(totals))
        hands[least].append(test)
        totals[least] += tests[test]
    return hands


def _stable(test: str) -> bytes:
    """Order tests of the same length in a way that spreads the tests of a file, alike on every machine."""
    return blake2b(test.encode(), digest_size=8).digest()


def known() -> dict[str, float]:
    """Return how long tests took."""
    found: dict[str, float] = json.loads(DURATIONS.read_text()) if DURATIONS.exists() else {}
    return found


def pick(config: pytest.Config, items: list[pytest.Item], shard: Shard) -> None:
    """Leave in `items` what this shard runs, in its order."""
    durations = known()
    seconds = {
        item.nodeid: durations.get(same(item.nodeid), SLOW if _is_slow(item) else FAST)
        for item in items
    }
    mine = set(deal(seconds, shard.of)[shard.number - 1])
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in mine])
    items[:] = [item for item in items if item.nodeid in mine]


def _is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def say(shard: Shard, tests: Sequence[str]) -> str:
    """Return the line that a run begins with."""
    durations = known()
    minutes = sum(durations.get(same(test), FAST) for test in tests) / 60
    return f"shard {shard.number} of {shard.of}: {len(tests):,} tests, about {minutes:.0f} minutes one after the other"


def write(stats: Mapping[str, Sequence[Any]]) -> int:
    """Write how long the tests of this run took, beside what is known of others; returns how many are kept."""
    took: dict[str, list[float]] = defaultdict(list)
    for test, seconds in _seconds(stats).items():
        took[same(test)].append(seconds)
    durations = known() | {
        test: round(sum(seconds) / len(seconds), 1) for test, seconds in took.items()
    }
    kept = {test: seconds for test, seconds in sorted(durations.items()) if seconds >= _KEPT}
    DURATIONS.write_text(json.dumps(kept, indent=0) + "\n")
    return len(kept)


def _seconds(stats: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """Return test → seconds with its fixtures, of those that passed."""
    passed = {each.nodeid for each in stats.get("passed", ())}
    found: dict[str, float] = defaultdict(float)
    for reports in stats.values():
        for each in reports:
            if getattr(each, "nodeid", None) in passed and hasattr(each, "when"):
                found[each.nodeid] += each.duration
    return found
