"""A process that keeps a server alive for as long as its starter lives, and no longer.

    python guard.py SIGNAL [--folder=PATH] COMMAND...

Whoever needs a private server starts this file and holds the write end of its standard input. The kernel closes that
end when the starter dies, however it dies, and then the server is sent SIGNAL, and SIGKILL five seconds later. The
one line on standard output is the server's process id; what the server prints goes to standard error. The exit status
is the server's, or 128 + the number of the signal that ended it.

A starter that lives on says so by a byte before it closes. Without it the guard also removes PATH, a temporary folder
that nobody else will.

The server is this process's own child, so its id cannot come to mean somebody else before it is waited for. Rejected:
PR_SET_PDEATHSIG in the server alone, which follows the *thread* that forked and does not exist outside Linux.

Runs by path with `python -I -S`: standard library only, and nothing of this package.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys

GRACE = 5.0
"""Seconds between the polite signal and SIGKILL."""

LOOK = 1.0
"""Seconds between looks at the parent's id: the second sign of its death, should a fork of it hold the pipe open."""

_FOLDER = "--folder="
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Run the server until it ends or the starter does; return the server's exit status."""
    polite, command = signal.Signals[f"SIG{arguments[0]}"], arguments[1:]
    folder = command.pop(0).removeprefix(_FOLDER) if command[0].startswith(_FOLDER) else None
    starter, wake = os.getppid(), _wake_up_pipe()
    server = subprocess.Popen(  # noqa: S603 - the command is the starter's
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        preexec_fn=_end_with_guard,  # noqa: PLW1509 - there is one thread here
    )
    with contextlib.suppress(BrokenPipeError):
        print(server.pid, flush=True)  # noqa: T201 - the starter reads it
    alone = _watch(server, starter, wake)
    status = _end(server, polite)
    if alone and folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return status


def _watch(server: subprocess.Popen[bytes], starter: int, wake: int) -> bool:
    """Wait until the server ends or has to; return True when the starter is gone for good."""
    pipe = sys.stdin.fileno()
    while server.poll() is None:
        if os.getppid() != starter:
            return True
        readable, _, _ = select.select([pipe, wake], [], [], LOOK)
        if pipe in readable:
            return os.read(pipe, 1) == b""
        if wake in readable and any(number != signal.SIGCHLD for number in os.read(wake, 64)):
            return False
    return False


def _wake_up_pipe() -> int:
    """Return a pipe that every signal writes its number to, so that none is missed between two looks."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _wake_up)
    return wake


def _wake_up(_number: int, _frame: object) -> None:
    """Do nothing: the wake-up pipe carries the number, and an ignored signal would not be written there."""


def _end(server: subprocess.Popen[bytes], polite: signal.Signals) -> int:
    if server.poll() is None:
        server.send_signal(polite)
    try:
        return server.wait(GRACE)
    except subprocess.TimeoutExpired:
        server.kill()
        return server.wait()


def _end_with_guard() -> None:
    """Where the kernel can, let the server end even if this process is killed first."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.exit(status if status >= 0 else 128 - status)
