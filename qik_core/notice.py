"""How a parent speaks: lines on stderr, and datagrams to systemd.

Standard library only: the parent loads this file without the package.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

_form = "plain"


def write_as(form: str) -> None:
    """Write lines as the children do: `json`, or else plain."""
    global _form  # noqa: PLW0603 - one stderr, one form
    _form = form


def log(level: str, event: str, **fields: object) -> None:
    """Write one line as the children do. A closed stderr must not end the supervision."""
    now = time.time()
    at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
    if _form == "json":
        about = {"child" if name == "pid" else name: value for name, value in fields.items()}
        said = {"at": at, "level": level.lower(), "pid": os.getpid(), "logger": "parent"}
        line = json.dumps({**about, **said, "event": event}, default=str)
    else:
        rest = "".join(f" {name}={value}" for name, value in fields.items())
        line = f"{at} {level} {os.getpid()} parent: {event}{rest}"
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return


class Notify:
    """systemd's notifications: ready, stopping, alive. Silent where nobody listens."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period = environment.get("WATCHDOG_USEC", "")
        self.every = int(period) / 2_000_000 if mine and period.isdecimal() else 0.0
        self._due = 0.0

    def alive(self, now: float) -> None:
        """Feed the watchdog at half its period."""
        if self.every and now >= self._due:
            self._due = now + self.every
            self.send("WATCHDOG=1")

    def send(self, message: str) -> None:
        """Send one datagram. A service manager that cannot be reached is reported once."""
        if not self._address:
            return
        import socket

        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.settimeout(1.0)
                out.sendto(message.encode(), address)
        except OSError as error:
            log(
                "WARNING",
                "cannot notify the service manager",
                socket=self._address,
                error=str(error),
            )
            self._address = ""


def in_words(code: int) -> str:
    """Return how a process ended, from its return code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
