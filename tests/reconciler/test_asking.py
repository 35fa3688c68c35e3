"""Since when this process runs, as the system has it."""

from __future__ import annotations

import subprocess
import sys


def test_the_start_of_the_process_is_known_however_late_it_is_asked_for() -> None:
    code = (
        "import time; began = time.monotonic(); time.sleep(0.3); "
        "from reconciler.asking import started; print(began - started())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert 0 <= float(done.stdout) < 60
