"""Walks a path and dies at the n-th call to Redis: `python -m tests.chaos.crasher`, one order a line.

A server of forks: imports are paid once, each walk is a process of its own that ends by `os._exit`, as SIGKILL would
end it: nothing is flushed, closed or said goodbye to.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, Final

from qik_core.store.link import Link
from tests.chaos.broken import BROKEN
from tests.chaos.paths import PATHS, Actor

DIED: Final = 77
BEFORE: Final = "before"
AFTER: Final = "after"


class Crasher:
    """The server of forks, as a test sees it."""

    def __init__(self) -> None:
        root = str(Path(__file__).parents[2])
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.crasher"],
            cwd=root,
            env={**os.environ, "PYTHONPATH": root},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def walk(self, path: str, url: str, nth: int, when: str) -> bool:
        """Walk a path and die before or after its n-th call; False when it ended before that."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps([path, url, nth, when]), file=self._server.stdin, flush=True)
        code = int(self._server.stdout.readline())
        if code not in (0, DIED):
            raise AssertionError(f"{path}, {when} call {nth}: exit code {code}, see stderr")
        return code == DIED

    def close(self) -> None:
        self._server.communicate()


def main() -> None:
    """Obey until there are no more orders."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _live(*json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _live(path: str, url: str, nth: int, when: str) -> None:
    code = 1
    try:
        _arm(nth, when)
        (PATHS | BROKEN)[path].act(Actor(url))
        code = 0
    except BaseException:  # noqa: BLE001 - it is printed
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _arm(nth: int, when: str) -> None:
    """Let this process die at its n-th call."""
    left, send = nth, Link.send

    def deadly(link: Link, *args: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0 and when == BEFORE:
            os._exit(DIED)
        send(link, *args)
        if left == 0:
            select.select([link], [], [], 5.0)  # the server has done it
            os._exit(DIED)

    Link.send = deadly  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    main()
