"""A real browser, for tests of pages: what it makes of one, and what it complains of."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests import servers


def opened(page: Path, profile: Path) -> str:
    """Return a page as the browser has understood it; fail where it complains of anything on its console."""
    chromium = shutil.which("chromium") or servers.absent("chromium")
    done = subprocess.run(
        [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         f"--user-data-dir={profile}", "--enable-logging=stderr", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    return done.stdout
