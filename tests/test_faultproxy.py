from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from qik_core.errors import StoreFull, StoreUnavailable
from qik_core.store.link import Link
from tests.faultproxy import (
    FAULTS,
    LOSES_THE_REPLY,
    FaultProxy,
    is_called,
    is_command,
    is_script,
)
from tests.waiting import eventually


@pytest.fixture
def proxy(redis_url: str, tmp_path: Path) -> Iterator[FaultProxy]:
    proxy = FaultProxy(redis_url, tmp_path)
    yield proxy
    proxy.close()


@pytest.fixture
def link(proxy: FaultProxy) -> Iterator[Link]:
    link = Link(proxy.url, timeout=0.3)
    yield link
    link.close()


def test_without_a_rule_everything_goes_through(link: Link, proxy: FaultProxy) -> None:
    assert link.call("SET", "a", "b" * 200_000) == b"OK"
    assert link.call("GET", "a") == b"b" * 200_000
    assert link.call("GET", "nothing") is None
    assert [words[0] for words in proxy.calls if words[0] in (b"SET", b"GET")] == [
        b"SET", b"GET", b"GET",
    ]  # fmt: skip


@pytest.mark.parametrize("action", ["cut", "hang"])
def test_a_lost_reply_is_of_a_command_that_was_carried_out(
    link: Link, proxy: FaultProxy, raw: redis.Redis, action: str
) -> None:
    proxy.lose(is_command(b"INCR"), action, skip=1)

    assert link.call("INCR", "n") == 1
    with pytest.raises(StoreUnavailable):
        link.call("INCR", "n")
    assert raw.get("n") == b"2"
    assert link.call("INCR", "n") == 3


def test_a_refused_command_was_not_carried_out(
    link: Link, proxy: FaultProxy, raw: redis.Redis
) -> None:
    rule = proxy.lose(is_command(b"INCR"), "refuse", times=2)

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            link.call("INCR", "n")
    assert raw.get("n") is None
    assert link.call("INCR", "n") == 1
    assert rule.hits == 2


def test_a_script_is_known_by_its_name(link: Link, proxy: FaultProxy) -> None:
    rule = proxy.lose(is_script("audit"))

    link.run("look", (), ("aa bb 0",))
    with pytest.raises(StoreUnavailable):
        link.run("audit", (b"retry",))
    assert rule.hits == 1


def test_a_cut_breaks_what_is_open_and_a_new_connection_works(
    link: Link, proxy: FaultProxy
) -> None:
    link.call("PING")
    proxy.cut()

    with pytest.raises(StoreUnavailable):
        link.call("PING")
    assert link.call("PING") == b"PONG"


@pytest.fixture
def over_tcp(redis_url: str, tmp_path: Path) -> Iterator[FaultProxy]:
    proxy = FaultProxy(redis_url, tmp_path, tcp=True)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("action", FAULTS)
def test_each_fault_fails_one_call_and_the_next_one_works(
    over_tcp: FaultProxy, raw: redis.Redis, action: str
) -> None:
    over_tcp.lose(is_called("INCR"), action)
    link = Link(over_tcp.url, timeout=0.2)

    with pytest.raises(StoreUnavailable):
        link.call("INCR", "n")
    if action == "late":
        assert raw.get("n") is None
        assert link.call("INCR", "n") == 1
        eventually(lambda: raw.get("n") == b"2")
    else:
        assert raw.get("n") == (b"1" if action in LOSES_THE_REPLY else None)
        assert link.call("PING") == b"PONG"
    link.close()


def test_an_error_stands_in_for_the_servers_and_keeps_the_connection(
    over_tcp: FaultProxy, raw: redis.Redis
) -> None:
    over_tcp.lose(is_called("SET"), "error", text="OOM command not allowed when used memory")
    link = Link(over_tcp.url)

    with pytest.raises(StoreFull):
        link.call("SET", "a", "1")
    link.call("SET", "b", "1")
    assert raw.exists("a", "b") == 1
    link.close()


def test_what_was_seen_is_counted_by_the_names_of_scripts_and_commands(
    link: Link, proxy: FaultProxy
) -> None:
    link.run("look", (), ("aa bb 0",))
    link.run("look", (), ("aa bb 0",))
    link.call("get", "a")

    assert (proxy.seen()["look"], proxy.seen()["GET"]) == (3, 1)  # the first was met by NOSCRIPT
