"""Asking a port for probes and metrics, and reading what it answers. `samples` refuses what Prometheus would."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
from typing import NamedTuple

LINE = re.compile(
    r'([a-z_][a-z0-9_]*)(\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? (-?[0-9.e+-]+|\+Inf)'
)


class Reply(NamedTuple):
    status: int
    body: str
    kind: str


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def get(port: int, path: str, method: str = "GET") -> Reply:
    """Ask once; a status of 0 means that nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        reply = connection.getresponse()
        return Reply(reply.status, reply.read().decode(), reply.headers["Content-Type"])
    except (ConnectionError, http.client.HTTPException):
        return Reply(0, "", "")
    finally:
        connection.close()


def samples(page: str) -> dict[str, float]:
    """Return the samples of a page by name and labels."""
    found: dict[str, float] = {}
    for line in page.splitlines():
        if line.startswith("#"):
            continue
        matched = LINE.fullmatch(line)
        assert matched is not None, f"no sample: {line!r}"
        name, labels, value = matched.groups()
        assert name + (labels or "") not in found, f"twice: {line!r}"
        found[name + (labels or "")] = float(value)
    return found


def check_with_promtool(promtool: str, page: str) -> None:
    """Fail if Prometheus could not read the page, or would find fault with it."""
    done = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
