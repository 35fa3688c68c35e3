"""`python -m examples.saas`: tables, a private server, worker, reconcilers and the web service, in one terminal.

REDIS_URL, DATABASE_URL and DATABASE_URL_INFRA name other servers. Ctrl-C ends everything.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from examples.saas.database import create_tables
from qik_core.embedded import Embedded

REDIS: Final = Path(".qik", "redis")
DEV: Final = (sys.executable, "-m", "qik_core.cli", "dev", "examples.saas.app")
WEB: Final = (sys.executable, "-m", "uvicorn", "examples.saas.web:app", "--port")
_SQLITE: Final = {
    "DATABASE_URL": "sqlite:///saas.db",
    "DATABASE_URL_INFRA": "sqlite:///saas-infra.db",
}


def main() -> int:
    """Run everything, the service on port 8000 or on PORT; return the exit code: 1 if a part ended by itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    for name, url in _SQLITE.items():
        os.environ.setdefault(name, url)
    create_tables()
    with ExitStack() as around:
        if "REDIS_URL" not in os.environ:
            os.environ["REDIS_URL"] = around.enter_context(
                Embedded(folder=REDIS, appendonly=True)
            ).url
        return _run([*DEV], [*WEB, os.environ.get("PORT", "8000")])


def _run(*commands: list[str]) -> int:
    # Each in a session of its own: a terminal's Ctrl-C reaches it once, through us.
    running = [subprocess.Popen(each, start_new_session=True) for each in commands]
    try:
        while all(each.poll() is None for each in running):
            time.sleep(0.2)
    except KeyboardInterrupt:
        return 0
    finally:
        for each in running:
            each.send_signal(signal.SIGINT)
        for each in running:
            each.wait()
    return 1


if __name__ == "__main__":
    sys.exit(main())
