"""A function of a test in a Python of its own, for what counts calls: other tests leave threads, modules and hooks behind.

CPython 3.11 even hangs: after an exception was sent to a thread that never took it, a profiled thread gets no further than its
first instruction.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).parents[1]
_PROGRAM: Final = """
import json, sys
from importlib import import_module
module, name, given = sys.argv[1:]
print(json.dumps(getattr(import_module(module), name)(*json.loads(given))))
"""


def fresh(function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function at the top of a module returns there; arguments and answer are JSON values."""
    file = Path(function.__code__.co_filename).relative_to(_ROOT)
    command = [sys.executable, "-c", _PROGRAM, ".".join(file.with_suffix("").parts)]
    done = subprocess.run(
        [*command, function.__name__, json.dumps(args)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
