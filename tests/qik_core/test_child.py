from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "how",
    ["os.close(2)", "sys.stderr.close()", "sys.stderr = None"],
    ids=["the file", "what Python has of it", "all of it"],
)
def test_a_process_that_must_end_ends_though_nothing_can_be_said_any_more(
    how: str, tmp_path: Path
) -> None:
    code = f"""
import os, sys
from qik_core import child, logs
logs.set_up("INFO")
{how}
child._end()
"""
    core = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=core, check=False, timeout=30
    )

    assert ended.returncode == -signal.SIGKILL
