"""What all tests share: private servers, a clean environment, no process left behind, an honest closing summary.

redis_url      an empty private server; `@pytest.mark.every_server` runs the test once per kind
redis_server   the same server, to kill and restart; it is healthy again for the next test
own_raw        such a client of an empty server of the test's own: no thread that another test left has a connection to it
raw            a redis-py client without retries, to look at keys
postgres_url   an empty database of a private PostgreSQL
postgres       that server, to kill and restart; it is healthy again for the next test
pgbouncer_url  the same by way of a PgBouncer in transaction mode; TEST_PGBOUNCER=1 makes every postgres_url one
mariadb_url    an empty database of a private MariaDB
mariadb        that server, to kill and restart; it is healthy again for the next test
sqlite_url     a new SQLite file in WAL mode
database_url   all three, one after the other
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from qik_core.embedded import Embedded, Kind
from tests import servers, shards
from tests.bouncer import PgBouncer
from tests.databases import DATABASES
from tests.servers import TAG
from tests.waiting import busy, eventually


def _ours(name: str) -> bool:
    return name in {"REDIS_URL", "DATABASE_URL"} or name.startswith(("QIK_", "DATABASE_URL_"))


# A developer's own settings must not reach a test, nor a process that a test starts.
for _name in [name for name in os.environ if _ours(name)]:
    del os.environ[_name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test marked `every_server` once per kind of server."""
    if "redis_kind" in metafunc.fixturenames:
        every = metafunc.definition.get_closest_marker("every_server") is not None
        hidden = [pytest.param(Kind.VALKEY, id=pytest.HIDDEN_PARAM)]
        metafunc.parametrize("redis_kind", list(Kind) if every else hidden)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Refuse a name that differs from process to process: workers of pytest-xdist compare what they have collected."""
    if " at 0x" in item.nodeid:
        raise pytest.UsageError(
            f"{item.nodeid}: give the parameters ids that are the same in each process"
        )


@pytest.fixture(scope="session")
def _redis_servers() -> Iterator[dict[Kind, Embedded]]:
    started: dict[Kind, Embedded] = {}
    yield started
    for server in started.values():
        server.stop()


@pytest.fixture
def redis_server(redis_kind: Kind, _redis_servers: dict[Kind, Embedded]) -> Embedded:
    """A running, empty server, also when the test before killed or filled it."""
    server = _redis_servers.get(redis_kind)
    if server is None:
        server = _redis_servers[redis_kind] = servers.redis_server(redis_kind)
    server.start()
    with _client(server.url) as client:
        client.config_set("maxmemory", 0)
        client.flushall()
        client.script_flush()
    return server


@pytest.fixture
def redis_url(redis_server: Embedded) -> str:
    """The URL of an empty private server."""
    return redis_server.url


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis.Redis]:
    """A client that does what it is told once, and gives bytes."""
    with _client(redis_url) as client:
        yield client


@pytest.fixture
def own_raw(redis_kind: Kind) -> Iterator[redis.Redis]:
    """A client of an empty server that nobody whom another test left is a client of."""
    with servers.redis_server(redis_kind) as server, _client(server.url) as client:
        yield client


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0))


@pytest.fixture(scope="session")
def _postgres() -> Iterator[list[servers.Postgres]]:
    started: list[servers.Postgres] = []
    yield started
    for server in started:
        server.stop()


@pytest.fixture
def postgres(_postgres: list[servers.Postgres]) -> servers.Postgres:
    """A private PostgreSQL that runs, also when the test before killed it."""
    if not _postgres:
        _postgres.append(servers.Postgres())
    _postgres[0].start()
    return _postgres[0]


@pytest.fixture
def postgres_url(postgres: servers.Postgres, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of a private PostgreSQL; with TEST_PGBOUNCER=1 by way of a PgBouncer."""
    with postgres.database() as url:
        through = os.environ.get("TEST_PGBOUNCER") == "1"
        yield request.getfixturevalue("pgbouncer").through(url) if through else url


@pytest.fixture(scope="session")
def _pgbouncer() -> Iterator[list[PgBouncer]]:
    started: list[PgBouncer] = []
    yield started
    for server in started:
        server.stop()


@pytest.fixture
def pgbouncer(_pgbouncer: list[PgBouncer], postgres: servers.Postgres) -> PgBouncer:
    """A PgBouncer in transaction mode before that PostgreSQL."""
    if not _pgbouncer:
        server = PgBouncer(postgres)
        _pgbouncer.append(server)
        server.start()
    return _pgbouncer[0]


@pytest.fixture
def pgbouncer_url(pgbouncer: PgBouncer, postgres: servers.Postgres) -> Iterator[str]:
    """An empty database of that PostgreSQL, by way of the PgBouncer."""
    with postgres.database() as url:
        yield pgbouncer.through(url)


@pytest.fixture(scope="session")
def _mariadb() -> Iterator[list[servers.MariaDb]]:
    started: list[servers.MariaDb] = []
    yield started
    for server in started:
        server.stop()


@pytest.fixture
def mariadb(_mariadb: list[servers.MariaDb]) -> servers.MariaDb:
    """A private MariaDB that runs, also when the test before killed it."""
    if not _mariadb:
        _mariadb.append(servers.MariaDb())
    _mariadb[0].start()
    return _mariadb[0]


@pytest.fixture
def mariadb_url(mariadb: servers.MariaDb) -> Iterator[str]:
    """An empty database of a private MariaDB."""
    with mariadb.database() as url:
        yield url


@pytest.fixture
def promtool() -> str:
    """Debian's checker of metrics, rules and alerts."""
    return shutil.which("promtool") or servers.absent("prometheus")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A new SQLite file in WAL mode."""
    path = tmp_path / "test.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return f"sqlite:///{path}"


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database: the test runs on SQLite, on PostgreSQL, and on MariaDB."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


_PROC = Path("/proc")


@pytest.fixture(autouse=True)
def _no_process_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves processes behind, also orphaned grandchildren: they inherit a mark in the environment."""
    tag, before = uuid.uuid4().hex, _processes()
    os.environ[TAG] = tag
    yield
    os.environ.pop(TAG, None)
    if not _tagged(tag, before):
        return
    with suppress(AssertionError):
        eventually(lambda: not _tagged(tag, before), 5.0 * busy())
    left = _tagged(tag, before)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if left:
        pytest.fail(f"{request.node.nodeid} left processes behind: {left}")


def _processes() -> set[str]:
    """Return the ids of all processes. Where there is no /proc, none."""
    if not _PROC.is_dir():
        return set()
    return {name for name in os.listdir(_PROC) if name.isdigit()}  # noqa: PTH208  at each test, twice


def _tagged(tag: str, before: set[str]) -> dict[int, str]:
    """Return the running processes with this mark that were not there before: id → command."""
    mark, found = f"{TAG}={tag}".encode(), dict[int, str]()
    for folder in map(_PROC.joinpath, _processes() - before):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes():
                found[int(folder.name)] = (
                    (folder / "cmdline").read_text().replace("\0", " ").strip()
                )
    return found


_collected = pytest.StashKey[int]()
_SHORT = [Path(__file__).with_name(name) for name in ("qik_core", "reconciler")]
"""Where many short files are: no worker waits long for the last of them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run be one of several, and note how long tests take."""
    parser.addoption("--shard", metavar="I/N", help="run the I-th of N shards of all tests")
    parser.addoption(
        "--write-durations",
        action="store_true",
        help="write how long the tests took, for shards to be of one length",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of this shard, those of long files first; every worker picks the same."""
    items.sort(key=lambda item: any(map(item.path.is_relative_to, _SHORT)))
    if config.option.shard:
        shards.pick(config, items, shards.read(config.option.shard))


def _say_shard(config: pytest.Config, tests: Sequence[str]) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if config.option.shard and reporter is not None and _collected not in config.stash:
        reporter.write_line(shards.say(shards.read(config.option.shard), tests))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Remember how many tests are to run, where they run in this process."""
    _say_shard(session.config, [item.nodeid for item in session.items])
    session.config.stash[_collected] = len(session.items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Remember how many tests are to run, where workers run them: each worker collects all."""
    _say_shard(node.config, ids)
    node.config.stash[_collected] = len(ids)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Let a worker report a test whose output is no valid text: tests of bad input log half characters."""
    return _as_text((yield))


def _as_text(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(data, dict):
        return {_as_text(name): _as_text(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(_as_text(value) for value in data)
    return data


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not run and the one command that adds it; with CI=true, prove that nothing skipped."""
    if terminalreporter.config.option.write_durations:
        kept = shards.write(terminalreporter.stats)
        terminalreporter.write_line(
            f"{shards.DURATIONS.name}: {kept} tests are longer than a second"
        )
    skipped = terminalreporter.stats.get("skipped", [])
    missing = servers.missing(str(report.longrepr) for report in skipped)
    for server, tests in sorted(missing.items()):
        terminalreporter.write_line(f"not run: {tests} tests need {server}", yellow=True)
    if missing:
        terminalreporter.write_line(f"add it, as root: {servers.REMEDY}", yellow=True)
    if servers.CI:
        collected = terminalreporter.config.stash.get(_collected, 0)
        passed = len(terminalreporter.stats.get("passed", []))
        terminalreporter.write_line(
            f"collected = {collected}, passed = {passed}, skipped {len(skipped)}"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With CI=true, a run in which not every collected test passed has failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    in_worker = hasattr(session.config, "workerinput")
    if not servers.CI or in_worker or session.config.option.collectonly or reporter is None:
        return
    passed = len(reporter.stats.get("passed", []))
    collected = session.config.stash.get(_collected, 0)
    if session.exitstatus == pytest.ExitCode.OK and passed != collected:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
