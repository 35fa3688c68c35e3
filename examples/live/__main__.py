"""`python -m examples.live`, or `make dev`: everything that `qik dev` brings, and customers who order. Ctrl-C ends it.

Killed, or with its starter killed, it leaves nothing behind (the first on Linux alone).

What it writes is in `.qik/` of the current folder. More options go to `qik dev`, as in `python -m examples.live --port 8080`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from sqlalchemy import insert

EVERY: Final = 0.5
"""Seconds between two orders."""
_PR_SET_PDEATHSIG: Final = 1
DEV: Final = ("dev", "examples.live.app", "-q", "orders", "-q", "mail")


def main() -> int:
    """Run until Ctrl-C, or the end of what started this; return the exit code of `qik dev`."""
    starter = os.getppid()
    Path(".qik").mkdir(exist_ok=True)
    path = Path(".qik", "live.db").absolute()
    os.environ.setdefault("DATABASE_URL", f"sqlite:///{path}?timeout=30")
    os.environ.setdefault("QIK_LOG_LEVEL", "error")  # so that the address stays in sight
    from examples.live.app import Base, Order, engine

    Base.metadata.create_all(engine)
    command = [sys.executable, "-m", "qik_core.cli", *DEV, *sys.argv[1:]]
    # In a session of its own: a terminal's Ctrl-C reaches it once, through us.
    dev = subprocess.Popen(
        command,
        start_new_session=True,
        preexec_fn=_end_with_us,  # noqa: PLW1509  no second thread runs here
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: dev.send_signal(signal.SIGINT))
    try:
        while dev.poll() is None and os.getppid() == starter:
            with engine.begin() as connection:
                connection.execute(insert(Order))
            time.sleep(EVERY)
    finally:
        dev.send_signal(signal.SIGINT)
        dev.wait()
    return dev.returncode


def _end_with_us() -> None:
    """Where the kernel can, have it send TERM to `qik dev` when this dies without a word."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
