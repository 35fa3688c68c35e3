from __future__ import annotations

import threading
import time

import pytest

from qik_core.payload import Payload
from qik_core.store import due
from qik_core.store.link import Link
from tests.qik_core.store.rig import Rig, jid
from tests.waiting import eventually

pytestmark = pytest.mark.every_server


def test_what_is_due_moves_and_what_is_not_stays(rig: Rig) -> None:
    rig.edge(1, delays=[0.01])
    rig.edge(2, delays=[60.0])

    eventually(lambda: due.promote(rig.link, b"schedule").jobs)
    left = due.promote(rig.link, b"schedule").next_due
    assert left is not None
    assert left > time.time() + 30
    assert rig.queued() == [jid(1).decode()]


def test_a_promoted_job_says_when_it_came_to_its_queue(rig: Rig) -> None:
    rig.edge(1, delays=[0.01])
    eventually(lambda: due.promote(rig.link, b"schedule").jobs)

    raw = rig.raw.lindex("queue:default", 0)
    assert raw is not None
    assert abs(Payload.decode(raw)["enqueued_at"] - time.time()) < 5


def test_several_pollers_move_each_job_once(rig: Rig) -> None:
    rig.raw.zadd(
        "schedule", {b'{"class":"X","args":[%d],"queue":"default"}' % n: 1.0 for n in range(1000)}
    )
    links = [Link(rig.url) for _ in range(4)]

    def drain(link: Link) -> None:
        while due.promote(link, b"schedule").jobs:
            pass

    threads = [threading.Thread(target=drain, args=(link,)) for link in links]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rig.raw.llen("queue:default") == 1000
    assert len(set(rig.raw.lrange("queue:default", 0, -1))) == 1000


def test_bad_entries_are_set_aside_and_hold_nothing_up(rig: Rig) -> None:
    bad = [
        b"not json",
        b"[1]",
        b'{"class":"X","args":[]}',
        b'{"queue":"a b","class":"X"}',
        b"\xff\xfe",
        b'{"queue":5}',
    ]
    rig.raw.zadd("retry", dict.fromkeys(bad, 1.0))
    rig.raw.zadd("retry", {b'{"class":"X","args":[9007199254740993],"queue":"default"}': 2.0})

    moved = due.promote(rig.link, b"retry")
    assert (moved.jobs, moved.malformed) == (1, len(bad))
    assert set(rig.raw.zrange("dead", 0, -1)) == set(bad)
    assert rig.raw.lrange("queue:default", 0, -1) == [
        b'{"class":"X","args":[9007199254740993],"queue":"default"}'
    ]
    assert rig.raw.hget("qik:counts", "malformed") == b"%d" % len(bad)


def test_counts_prove_no_deletion_when_jobs_of_ruby_become_due(rig: Rig) -> None:
    rig.raw.zadd("schedule", {b'{"class":"X","args":[],"queue":"default","jid":"a"}': 1.0})
    rig.raw.zadd("retry", {b'{"qik":"-","jid":"","queue":"default","class":"X","args":[]}': 1.0})
    rig.raw.set("qik:n:retry", 1)  # it came without a jid, and failed here

    for source in (b"schedule", b"retry"):
        assert due.promote(rig.link, source).jobs == 1
    assert len(rig.worker().fetch()) == 2

    assert rig.store.audit(["default"]) == 0
    assert (rig.raw.get("qik:n:queue:default"), rig.raw.get("qik:n:retry")) == (b"0", b"0")
