"""`make test` in CI: runs pytest, and judges alone what failed beside other tests.

Thousands of tests that kill servers and wait for moments share two cores, so now and then one fails of its neighbours. Run
alone, such a test passes; most defects fail there too. So each failed test runs alone, `TIMES` times, and must pass each time.
All of them are named at the end: one that is named again and again has a defect, of its own or of the code.

More than `FEW` failures are no accident, and an error of collection, a crash or an interrupt is none either: those stand.

    python -m tests.again -n 3 -m 'not slow'
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

TIMES: Final = 3
FEW: Final = 5
_FAILED: Final = 1  # pytest's exit code for tests that failed; every other one is more than that


def main(args: Sequence[str]) -> int:
    """Run pytest with these arguments; return its exit code, or 0 when what failed passes alone."""
    with tempfile.TemporaryDirectory(prefix="qik-tests-") as cache:
        code = _pytest(cache, args)
        failed = _failed(Path(cache)) if code == _FAILED else []
        if not failed:
            return code
        if len(failed) > FEW:
            _say(f"{len(failed):,} tests failed, more than {FEW}: they are not judged alone")
            return code
        _say(f"{len(failed)} failed beside other tests; alone, {TIMES} times each:")
        bad = [test for test in failed if not _passes_alone(cache, test)]
        return code if bad else 0


def _passes_alone(cache: str, test: str) -> bool:
    passed = 0
    while passed < TIMES and _pytest(cache, [test]) == 0:
        passed += 1
    what = "passes alone" if passed == TIMES else f"fails alone too, the {_nth(passed + 1)} time"
    _say(f"{test} {what}")
    return passed == TIMES


def _pytest(cache: str, args: Sequence[str]) -> int:
    command = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}", *args]
    return subprocess.run(command, check=False).returncode


def _failed(cache: Path) -> list[str]:
    found = cache / "v/cache/lastfailed"
    return sorted(json.loads(found.read_text("utf-8"))) if found.exists() else []


def _nth(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}[number]


def _say(what: str) -> None:
    print(f"again: {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
