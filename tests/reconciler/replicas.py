"""Replicas of real servers, for the tests of freshness: they stream from a primary, and can be held up."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from sqlalchemy import URL

from tests.servers import MariaDb, Postgres, _give_to, _guarded
from tests.waiting import eventually


class PostgresReplica(Postgres):
    """A hot standby of a PostgreSQL that runs."""

    def __init__(self, primary: Postgres) -> None:
        super().__init__()
        self._primary = primary

    def start(self) -> None:
        """Copy the primary and follow it; return when the standby takes connections."""
        _give_to("postgres", self.folder)
        data = self.folder / "data"
        self._run(
            "pg_basebackup",
            *("-h", str(self._primary.folder), "-p", str(self._primary.port), "-U", self._user),
            *("-D", str(data), "--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
        )
        server = [str(self._programs / "postgres"), "-D", str(data), *self._settings()]
        self._guard = _guarded(self.folder, "INT", [*self._as, *server])
        eventually(self._answers, 30.0, "the standby takes connections")

    def of(self, url: str) -> str:
        """Return the URL of the same database here."""
        name = url.partition("@/")[2].partition("?")[0]
        return f"postgresql+psycopg://{self._user}@/{name}?host={quote(str(self.folder))}&port={self.port}"

    def hold(self) -> None:
        """Replay nothing until `follow`."""
        with self._admin() as admin:
            admin.execute("SELECT pg_wal_replay_pause()")
            eventually(
                lambda: (
                    admin.execute("SELECT pg_get_wal_replay_pause_state()").fetchone()
                    == ("paused",)
                )
            )

    def follow(self) -> None:
        """Replay again."""
        with self._admin() as admin:
            admin.execute("SELECT pg_wal_replay_resume()")


CHANGE: Final = f"CHANGE {'_MASTER'[1:]} TO"
"""The server knows no other word for its primary."""


def administrator(server: MariaDb) -> URL:
    """Return the URL of a server itself, as its administrator."""
    socket = {"unix_socket": str(server.folder / "socket")}
    return URL.create("mariadb+pymysql", username="root", database="mysql", query=socket)


class LoggingMariaDb(MariaDb):
    """A MariaDB that writes a binary log, so that another may follow it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def follow(self, primary: LoggingMariaDb) -> None:
        """Begin to replicate what comes from now on."""
        rows = primary.run(
            "CREATE USER follower@'127.0.0.1'",
            "GRANT REPLICATION REPLICA ON *.* TO follower@'127.0.0.1'",
            "SELECT @@gtid_current_pos",
        )
        self.run(
            f"SET GLOBAL gtid_slave_pos = '{rows[0][0]}'",
            f"{CHANGE} MASTER_HOST='127.0.0.1', MASTER_PORT={primary.port}, "
            "MASTER_USER='follower', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1",
            "START REPLICA",
        )

    def lag(self, seconds: int) -> None:
        """Apply everything so many seconds late."""
        self.run("STOP REPLICA", f"{CHANGE} MASTER_DELAY={seconds}", "START REPLICA")

    def url(self) -> URL:
        """Return the URL of the server itself, as its administrator."""
        return administrator(self)

    def _settings(self) -> list[str]:
        settings = [each for each in super()._settings() if each != "--skip-log-bin"]
        return [*settings, f"--log-bin={self.folder / 'log'}", f"--server-id={self._number}"]
