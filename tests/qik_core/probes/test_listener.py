from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from qik_core.probes.listener import Answer, Listener
from tests.probing import Reply, free_port, get
from tests.waiting import eventually


def _answer(path: str, slow: threading.Event | None = None) -> Answer:
    if path == "/slow" and slow is not None:
        slow.wait(10)
    if path == "/raises":
        raise ValueError("of the test")
    return Answer(200, f"{path}\n")


@contextmanager
def listening(
    port: int,
    between: Callable[[], object] = lambda: None,
    slow: threading.Event | None = None,
    *,
    every: float = 0.05,
) -> Iterator[list[str]]:
    """Listen; yields what was said."""
    said: list[str] = []
    listener = Listener(
        ("127.0.0.1", port),
        partial(_answer, slow=slow),
        lambda _, text: said.append(text),
        between=between,
        every=every,
    )
    listener.start()
    try:
        eventually(lambda: get(port, "/up").status == 200)
        yield said
    finally:
        listener.stop()
        eventually(lambda: not listener._thread.is_alive())


@pytest.fixture
def port() -> Iterator[int]:
    port = free_port()
    with listening(port):
        yield port


def test_a_path_is_answered_without_its_query(port: int) -> None:
    assert get(port, "/livez?verbose=1").body == "/livez\n"


def test_nothing_but_get_is_answered(port: int) -> None:
    assert get(port, "/livez", "POST").status == 405


def test_a_client_that_says_nothing_holds_nobody_up(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as silent:
        assert get(port, "/livez").status == 200
        silent.settimeout(0)
        with pytest.raises(BlockingIOError):  # it has its second still
            silent.recv(1)


def test_many_clients_that_say_nothing_are_let_go_after_a_second(port: int) -> None:
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(12)]

    assert get(port, "/livez").status == 200

    for each in clients:
        each.close()


def test_it_answers_while_another_answer_takes_its_time() -> None:
    port, go = free_port(), threading.Event()
    with listening(port, slow=go):
        slow = threading.Thread(target=get, args=(port, "/slow"))
        slow.start()
        try:
            assert get(port, "/livez").status == 200
        finally:
            go.set()
            slow.join()


def test_whether_it_lives_is_told_while_as_many_wait_as_may_and_more_are_refused() -> None:
    port, go = free_port(), threading.Event()
    with listening(port, slow=go):
        replies: list[Reply] = []
        slow = [
            threading.Thread(target=lambda: replies.append(get(port, "/slow"))) for _ in range(8)
        ]
        for each in slow:
            each.start()
        try:
            eventually(lambda: len(replies) == 2)
            assert get(port, "/livez").status == 200
            assert [each.status for each in replies] == [503, 503]
        finally:
            go.set()
            for each in slow:
                each.join()
        assert sorted(each.status for each in replies) == [200] * 6 + [503] * 2
        assert get(port, "/slow").status == 200


@pytest.mark.parametrize(
    "junk", [b"\r\n\r\n", b"x" * 10_000, b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET"]
)
def test_what_is_no_request_ends_nothing(port: int, junk: bytes) -> None:
    client = socket.create_connection(("127.0.0.1", port))
    with client, suppress(OSError):  # it may be let go at once
        client.sendall(junk)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(4096)[:12] in (b"HTTP/1.1 400", b"")

    assert get(port, "/livez").status == 200


def test_an_answer_that_fails_is_told_and_the_next_one_comes() -> None:
    port = free_port()
    with listening(port) as said:
        assert get(port, "/raises").status == 500
        assert get(port, "/livez").status == 200
        assert said == ["'/raises' could not be answered: ValueError: of the test"]


def test_what_is_done_between_requests_holds_none_up() -> None:
    port, go = free_port(), threading.Event()
    with listening(port, between=lambda: go.wait(10)):
        try:
            assert get(port, "/livez").status == 200
        finally:
            go.set()


def test_between_requests_it_calls_what_is_to_be_done_then() -> None:
    called = threading.Event()
    with listening(free_port(), called.set):
        assert called.wait(10)


def test_what_is_to_be_done_is_done_also_where_somebody_asks_all_the_time() -> None:
    port, called = free_port(), threading.Event()
    with listening(port, called.set, every=0.5):
        eventually(lambda: get(port, "/livez").status == 200 and called.is_set())
