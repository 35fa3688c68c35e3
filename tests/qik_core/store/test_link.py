from __future__ import annotations

import os
import select
import signal
import time
from typing import Any

import pytest

from qik_core.embedded import Embedded
from qik_core.errors import SettingsError, StoreUnavailable
from qik_core.store.link import Hurried, Link, Links
from tests.waiting import busy, eventually


@pytest.mark.parametrize(
    "url",
    ["redis://user:hunter2@127.0.0.1:1/0", "redis://127.0.0.1:1/0?password=hunter2"],
    ids=["userinfo", "parameter"],
)
def test_no_error_of_a_connection_shows_its_password(url: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        Link(url).call("PING")
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)


def test_a_url_that_is_none_is_named_without_its_password() -> None:
    with pytest.raises(SettingsError) as caught:
        Link("http://:hunter2@127.0.0.1").call("PING")
    assert "hunter2" not in str(caught.value)


def test_no_call_fails_of_a_connection_that_the_server_closed_while_nobody_used_it(
    redis_url: str, raw: Any
) -> None:
    links = Links(redis_url)
    used = [links.borrow() for _ in range(3)]
    ids = [link.call("CLIENT", "ID") for link in used]
    for link in used:
        links.give(link)

    raw.client_kill_filter(_type="normal", skipme=True)
    eventually(lambda: not set(ids) & {int(each["id"]) for each in raw.client_list()})
    again = [links.borrow() for _ in range(3)]
    answers = [link.call("CLIENT", "ID") for link in again]
    for link in again:
        links.give(link)

    assert not set(answers) & set(ids)
    assert links.call("CLIENT", "ID") in answers  # what was made anew is kept
    links.close()


def test_an_answer_that_nobody_read_is_not_taken_for_that_of_the_next_call(redis_url: str) -> None:
    links = Links(redis_url)
    link = links.borrow()
    link.send("PING")
    eventually(lambda: select.select([link.fileno()], [], [], 0)[0])
    links.give(link)

    assert links.call("ECHO", "mine") == b"mine"
    links.close()


def test_calls_that_are_each_quick_enough_end_when_all_together_take_too_long(
    redis_url: str,
) -> None:
    link = Hurried(redis_url, seconds=0.5)
    began = time.monotonic()

    def ask() -> None:
        while time.monotonic() - began < 20:
            link.call("BLPOP", "nothing", "0.1")

    with pytest.raises(StoreUnavailable, match="did not answer"):
        ask()

    assert time.monotonic() - began < 2 * busy()


def test_a_call_waits_no_longer_than_is_left_for_all(
    redis_server: Embedded, redis_url: str
) -> None:
    link = Hurried(redis_url, seconds=0.5)
    link.call("PING")
    os.kill(redis_server.pid or 0, signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable):
            link.call("PING")
    finally:
        os.kill(redis_server.pid or 0, signal.SIGCONT)

    assert time.monotonic() - began < 1.5 * busy()


def test_a_url_cannot_make_a_call_wait_longer_than_its_deadline(redis_url: str) -> None:
    joint = "&" if "?" in redis_url else "?"
    link = Link(f"{redis_url}{joint}socket_timeout=30&socket_connect_timeout=30", timeout=0.2)
    link.call("PING")
    began = time.monotonic()

    with pytest.raises(StoreUnavailable):
        link.call("BLPOP", "nobody-pushes-here", 10)

    assert time.monotonic() - began < 2 * busy()
    link.close()
