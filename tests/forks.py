"""Our commands, each in a process of its own, without a start of Python for each.

A server of forks has imported what commands import. A command is a fork of it, which then does what `python -m` does, in
the folder, with the environment, the output and the exit code of its own. What a start itself costs, and what it imports,
is the business of tests that start Python.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

from tests.servers import outliving

QIK: Final = "qik_core.cli"
RECONCILER: Final = "reconciler.cli"
_BESIDES: Final = {
    QIK: ("qik_core.jobs", "qik_core.doctor", "qik_core.api", "rich.console", "rich.table"),
    RECONCILER: ("reconciler.declaration", "reconciler.migrate", "psycopg", "pymysql"),
}
"""What commands import only when they need it."""


def run(
    module: str,
    words: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Do as `python -m module words…`.

    Raises:
        TimeoutExpired: it took longer.
    """
    return _server(module).run({"words": [*words]}, cwd, env, timeout)


def run_code(
    module: str, code: str, *, cwd: Path, env: Mapping[str, str], timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Do as `python -c code`, where what `module` imports is there already.

    Raises:
        TimeoutExpired: it took longer.
    """
    return _server(module).run({"code": code}, cwd, env, timeout)


@cache
def _server(module: str) -> _Server:
    return _Server(module)


class _Server:
    """A server of forks, as a test sees it. It ends with the process that started it."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: subprocess.Popen[str] | None = None
        atexit.register(self._end)

    def run(
        self, order: dict[str, Any], cwd: Path, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Have one command run to its end."""
        with tempfile.TemporaryDirectory(prefix="qik-forks-") as folder:
            told = {**order, "folder": folder, "cwd": str(cwd), "env": dict(env)}
            code = self._obeyed(json.dumps(told), timeout)
            out, err = (Path(folder, name).read_text("utf-8") for name in ("out", "err"))
        return subprocess.CompletedProcess([self._module, *order.get("words", ())], code, out, err)

    def _obeyed(self, order: str, timeout: float) -> int:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        print(order, file=process.stdin, flush=True)
        if not select.select([process.stdout], [], [], timeout)[0]:
            self._end()
            raise subprocess.TimeoutExpired(self._module, timeout)
        return int(process.stdout.readline())

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            root = str(Path(__file__).parents[1])
            with outliving():
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.forks", self._module],
                    cwd=root,
                    env={**os.environ, "PYTHONPATH": root},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
        return self._process

    def _end(self) -> None:
        """End the server, and the command that may still run."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


# --- the server itself -----------------------------------------------------------------------------


def main(module: str) -> None:
    """Obey until there are no more orders."""
    _load(module)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _obey(module, **json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _load(module: str) -> None:
    commands = import_module(module)
    for name in commands.COMMANDS:
        with suppress(Exception):  # the command says what is wrong with it, when it is wanted
            commands.main.loaded(name)
    for each in _BESIDES[module]:
        import_module(each)


def _obey(
    module: str,
    *,
    folder: str,
    cwd: str,
    env: dict[str, str],
    words: Sequence[str] = (),
    code: str = "",
) -> NoReturn:
    """Be the command, in a fork, to its end."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    _redirect(folder)
    sys.path[0] = cwd
    if code:
        path = Path(folder, "code.py")
        path.write_text(code, encoding="utf-8")
        sys.argv = ["-c"]
        runpy.run_path(str(path), run_name="__main__")
    else:
        sys.argv = [module, *words]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit(0)


def _redirect(folder: str) -> None:
    """Write output into files from here on, and read nothing."""
    new = os.O_CREAT | os.O_WRONLY | os.O_APPEND
    for number, opened in (
        (0, os.open(os.devnull, os.O_RDONLY)),
        (1, os.open(f"{folder}/out", new)),
        (2, os.open(f"{folder}/err", new)),
    ):
        os.dup2(opened, number)
        os.close(opened)


if __name__ == "__main__":
    main(sys.argv[1])
