"""What `doctor` asks of a server that others write to as well."""

from __future__ import annotations

import json
from typing import Any

from qik_core.doctor import Check, examine
from qik_core.settings import Settings
from qik_core.store.inspection import inspect
from qik_core.store.link import Arg, Link


def test_a_process_whose_key_holds_something_else_is_found_and_the_others_are_seen(
    redis_url: str, raw: Any
) -> None:
    raw.sadd("processes", "a:1:x", "b:2:y")
    raw.set("a:1:x", "text")
    raw.hset("b:2:y", mapping={"info": json.dumps({"labels": ["qik"], "queues": []}), "beat": "1"})
    link = Link(redis_url)

    facts = inspect(link)

    link.close()
    assert [each.identity for each in facts.workers] == ["b:2:y"]
    (found,) = [each for each in examine(facts, Settings()) if each.check is Check.WRONG_TYPE]
    assert "the key a:1:x is no hash" in found.what


class Counting(Link):
    """Counts how often it waits for an answer before it asks on."""

    trips = 0
    _waited = True

    def send(self, *args: Arg) -> None:
        self.trips += self._waited
        self._waited = False
        super().send(*args)

    def receive(self, timeout: float | None = None) -> Any:
        self._waited = True
        return super().receive(timeout)


def test_a_server_far_away_is_asked_for_many_processes_and_queues_at_once(
    redis_url: str, raw: Any
) -> None:
    for number in range(200):
        raw.sadd("processes", f"p{number}")
        raw.hset(f"p{number}", mapping={"info": json.dumps({"labels": ["qik"]}), "beat": "1"})
        raw.sadd("queues", f"q{number}")
        raw.lpush(f"queue:q{number}", "{}")
    raw.set("queue:other", "text")
    raw.sadd("queues", "other")
    link = Counting(redis_url)

    facts = inspect(link)

    link.close()
    assert len(facts.workers) == 200
    assert facts.queues == {"other": -1, **{f"q{number}": 1 for number in range(200)}}
    assert link.trips < 60
