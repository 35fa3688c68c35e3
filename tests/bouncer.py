"""PgBouncer, before the PostgreSQL of the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from sqlalchemy import make_url

from tests.servers import Postgres, _give_to, _guarded, _unprivileged, absent, free_port
from tests.waiting import eventually


class PgBouncer:
    """A PgBouncer in transaction mode before a PostgreSQL: whoever begins a transaction gets any of its few sessions.

    So nothing that is set in a session, prepared or locked there, holds for the next transaction.
    """

    def __init__(self, postgres: Postgres) -> None:
        found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if found is None:
            absent("pgbouncer")
        self._postgres = postgres
        self._program = found
        self.folder = Path(tempfile.mkdtemp(prefix="qik-pb-", dir="/tmp"))
        self.port = free_port()
        self._guard: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Write its settings, start it, and return when it takes connections."""
        (self.folder / "users").write_text('"postgres" ""\n')
        (self.folder / "ini").write_text(
            "\n".join(
                (
                    "[databases]",
                    f"* = host={self._postgres.folder} port={self._postgres.port}",
                    "[pgbouncer]",
                    *("listen_addr = 127.0.0.1", f"listen_port = {self.port}", "unix_socket_dir ="),
                    *("auth_type = trust", f"auth_file = {self.folder / 'users'}"),
                    *("pool_mode = transaction", "default_pool_size = 4", "max_client_conn = 500"),
                )
            )
        )
        _give_to("postgres", self.folder)
        command = [*_unprivileged("postgres"), self._program, "-q", str(self.folder / "ini")]
        self._guard = _guarded(self.folder, "INT", command)
        eventually(self._answers, 30.0, "PgBouncer takes connections")

    def stop(self) -> None:
        """End it and remove its folder."""
        if self._guard is not None:
            self._guard.communicate(".")
        shutil.rmtree(self.folder, ignore_errors=True)

    def through(self, url: str) -> str:
        """Return the URL of a database of its PostgreSQL, by way of it."""
        found = make_url(url).set(host="127.0.0.1", port=self.port, query={})
        return found.render_as_string(hide_password=False)

    def _answers(self) -> bool:
        if self._guard is not None and self._guard.poll() is not None:
            said = (self.folder / "server.log").read_text()[-2000:]
            raise AssertionError(f"PgBouncer ended: {said}")
        with socket.socket() as door:
            return door.connect_ex(("127.0.0.1", self.port)) == 0
