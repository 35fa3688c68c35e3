"""How a parent speaks: lines on stderr, and datagrams to systemd.

Standard library only: the parent loads this file without the package.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time


class Log:
    """Lines on stderr: sentences, or one JSON object each."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def __call__(self, level: str, event: str, **fields: object) -> None:
        """Write one line. A closed stderr must not end the supervision."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._as_json:
            line = json.dumps(
                {"timestamp": at, "level": level, "parent": os.getpid(), "event": event, **fields}
            )
        else:
            rest = "".join(f" {name}={value}" for name, value in fields.items())
            line = f"{at} [{level}] parent {os.getpid()}: {event}{rest}"
        try:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return


class Notify:
    """systemd's notifications: ready, stopping, alive. Silent where nobody listens."""

    def __init__(self, environment: dict[str, str], log: Log) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._log = log
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
            self._log(
                "warning",
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
