from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from sqlalchemy import Engine, make_url, text

from qik_core import registry
from reconciler import Guard, silence, sql
from reconciler import registry as reconcilers
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable
from reconciler.recheck import Recheck
from reconciler.silence import Watchman
from reconciler.sql import reading
from tests.reconciler.bills import bills, fill
from tests.reconciler.failing import at
from tests.reconciler.wire import Wire
from tests.servers import MariaDb, Postgres
from tests.waiting import eventually


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_connection_over_its_time_is_shut(pair: tuple[socket.socket, socket.socket]) -> None:
    with Watchman().over(pair[0], 0.1) as waiting:
        assert pair[0].recv(1) == b""  # it ends although nobody has sent or closed anything
        assert waiting.over


def test_one_that_is_through_in_time_is_left_alone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    watchman = Watchman()
    for _ in range(3):
        with watchman.over(pair[0], 0.2):
            pass
    with watchman.over(pair[1], 0.4):
        assert pair[1].recv(1) == b""  # its own time is over; the other's would have been before

    assert not watchman._waiting


def test_another_question_begins_the_time_anew(pair: tuple[socket.socket, socket.socket]) -> None:
    began = time.monotonic()
    with Watchman().over(pair[0], 0.3) as waiting:
        eventually(lambda: time.monotonic() - began > 0.2)
        waiting.again()
        pair[0].recv(1)

    assert time.monotonic() - began >= 0.5


def test_the_shorter_time_is_kept_beside_a_longer_one() -> None:
    watchman = Watchman()
    long, far = socket.socketpair()
    short, near = socket.socketpair()
    began = time.monotonic()
    with watchman.over(long, 60.0), watchman.over(short, 0.1):
        assert short.recv(1) == b""

    assert time.monotonic() - began < 5.0
    for each in (long, far, short, near):
        each.close()


@pytest.fixture(params=["postgres", "mariadb"])
def far(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Engine, Wire]]:
    """A database at the other end of a wire."""
    monkeypatch.setattr(silence, "GRACE", 0.3)
    server: Postgres | MariaDb = request.getfixturevalue(request.param)
    url = make_url(request.getfixturevalue(f"{request.param}_url"))
    with Wire(server.port) as wire:
        through = url.set(host="127.0.0.1", port=wire.port, query={})
        engines = Engines({"default": through})
        yield engines.home(), wire
        engines.dispose()


def test_a_question_that_nobody_answers_is_given_up_and_said(far: tuple[Engine, Wire]) -> None:
    home, wire = far
    began = time.monotonic()

    with pytest.raises(SqlUnavailable, match="no answer within"):
        _ask_nobody(home, wire)

    assert time.monotonic() - began < 4.0
    with reading(home, 5.0) as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


def _ask_nobody(home: Engine, wire: Wire) -> None:
    with reading(home, 0.5) as connection:
        wire.fault = "hole"
        connection.execute(text("SELECT 1"))


def test_one_that_falls_silent_does_not_hold_up_another(far: tuple[Engine, Wire]) -> None:
    home, wire = far
    failed: list[Exception] = []

    def ask() -> None:
        try:
            _ask_nobody(home, wire)
        except SqlUnavailable as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    with reading(home, 5.0) as connection:
        thread.start()
        thread.join()
        assert connection.execute(text("SELECT 1")).scalar_one() == 1

    assert len(failed) == 1


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        (Guard.row_lock(), ("FOR UPDATE",)),
        (Guard.advisory(), ("pg_try_advisory", "GET_LOCK")),
        (Guard.advisory(), ("SELECT 1", "RELEASE_LOCK")),
    ],
    ids=["row lock", "advisory lock", "its end"],
)
def test_a_guard_is_not_waited_for_on_a_server_that_has_fallen_silent(
    far: tuple[Engine, Wire],
    monkeypatch: pytest.MonkeyPatch,
    guard: Guard,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setattr(sql, "WRITE_TIMEOUT", 0.5)
    home, wire = far
    fill(home)
    ended: list[str] = []

    def run() -> None:
        with suppress(SqlUnavailable), recheck.guarded("Charge", (7,)) as free:
            ended.append(f"held {free}")
        ended.append("over")

    with registry.scope(empty=True), reconcilers.scope():
        bills(guard)
        recheck = Recheck(lambda: Engines({"default": home}))
        for each in words:
            at(home, each, 1, lambda _: setattr(wire, "fault", "hole"))
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(20.0)

    assert ended[-1:] == ["over"]
    assert ("held True" in ended) == ("RELEASE_LOCK" in words)
