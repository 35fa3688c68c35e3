from __future__ import annotations

import select
from typing import Any

import pytest

from qik_core.errors import SettingsError, StoreUnavailable
from qik_core.store.link import Link, Links
from tests.waiting import eventually


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
