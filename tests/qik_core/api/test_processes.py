from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from qik_core.api import Process, ProcessSet, WorkSet
from tests.qik_core.api.places import foreign, name
from tests.qik_core.store.rig import Rig

INFO = {
    "hostname": "host",
    "started_at": 1795293773.5,
    "pid": 7,
    "tag": "shop",
    "concurrency": 10,
    "queues": ["default", "low"],
    "labels": ["qik"],
    "version": "1.2",
    "embedded": False,
    "capsules": {"default": {"concurrency": 10, "mode": "strict", "weights": {"default": 1}}},
}


def beat(rig: Rig, identity: str, **fields: Any) -> None:
    """A process as it says of itself that it lives."""
    rig.raw.sadd("processes", identity)
    whole = {
        "info": json.dumps(INFO),
        "busy": 2,
        "beat": time.time(),
        "quiet": "false",
        "rss": 5000,
    }
    rig.raw.hset(identity, mapping={**whole, **fields})


def process(rig: Rig, identity: str) -> Process:
    found = ProcessSet(rig.store).find(identity)
    assert found is not None
    return found


@pytest.mark.every_server
def test_processes_are_shown_as_they_last_said(rig: Rig) -> None:
    beat(rig, "host:7:aa", concurrency=12, quiet="true", rtt_us=90)

    [shown] = ProcessSet(rig.store)

    assert (shown.identity, shown.hostname, shown.pid, shown.tag) == (
        "host:7:aa",
        "host",
        7,
        "shop",
    )
    assert shown.started_at == datetime.fromtimestamp(1795293773.5, UTC)
    assert shown.beat_at is not None
    assert (shown.busy, shown.concurrency, shown.rss, shown.rtt) == (2, 12, 5000, 90)
    assert (shown.quiet, shown.embedded, shown.version) == (True, False, "1.2")
    assert (shown.queues, shown.labels) == (["default", "low"], ["qik"])
    assert shown.capsules["default"]["mode"] == "strict"


def test_a_process_of_an_older_ruby_names_its_threads_inside(rig: Rig) -> None:
    beat(rig, "host:7:aa")

    assert process(rig, "host:7:aa").concurrency == 10


@pytest.mark.parametrize(
    "info", ["", "{}", "[]", "no json", '{"queues":7,"pid":"x","labels":null,"started_at":"x"}']
)
def test_a_sloppy_process_breaks_the_list_for_nobody(rig: Rig, info: str) -> None:
    beat(rig, "host:7:aa")
    beat(rig, "odd", info=info, busy="x", beat="x", rss="")

    shown = process(rig, "odd")

    assert (shown.busy, shown.beat_at, shown.queues, shown.pid) == (0, None, [], 0)
    assert len(list(ProcessSet(rig.store))) == 2


def test_a_silent_process_is_not_shown_and_can_be_pruned(rig: Rig) -> None:
    beat(rig, "host:7:aa")
    rig.raw.sadd("processes", "host:8:bb", "host:9:cc")

    assert [each.identity for each in ProcessSet(rig.store)] == ["host:7:aa"]
    assert ProcessSet(rig.store).prune() == 2
    assert ProcessSet(rig.store).prune() == 0
    assert rig.raw.smembers("processes") == {b"host:7:aa"}


def test_hundreds_of_processes_are_shown_once_each(rig: Rig) -> None:
    for number in range(350):
        beat(rig, f"host:{number}:aa")

    assert len({each.identity for each in ProcessSet(rig.store)}) == 350
    assert len(list(ProcessSet(rig.store))) == 350


@pytest.mark.every_server
@pytest.mark.parametrize(
    ("ask", "signal"), [("quiet", b"TSTP"), ("stop", b"TERM"), ("dump", b"TTIN")]
)
def test_a_process_is_asked_as_sidekiq_asks(rig: Rig, ask: str, signal: bytes) -> None:
    beat(rig, "host:7:aa")
    beat(rig, "host:8:bb")
    processes = ProcessSet(rig.store)

    assert getattr(processes, ask)("host:7:aa") == 1

    assert rig.raw.lrange("host:7:aa-signals", 0, -1) == [signal]
    assert 50 < rig.raw.ttl("host:7:aa-signals") <= 60
    assert rig.raw.exists("host:8:bb-signals") == 0
    assert getattr(processes, ask)() == 2


def test_who_is_gone_or_embedded_is_asked_for_nothing(rig: Rig) -> None:
    beat(rig, "host:7:aa", info=json.dumps({**INFO, "embedded": True}))

    assert ProcessSet(rig.store).stop() == 0
    assert ProcessSet(rig.store).stop("host:7:aa") == 0
    assert ProcessSet(rig.store).stop("nobody") == 0
    assert list(rig.raw.scan_iter("*-signals")) == []


def test_a_signal_reaches_a_process_at_its_next_beat(rig: Rig) -> None:
    worker = rig.worker("host:7:aa")
    worker.store.beat(rig.link, ["info", json.dumps(INFO), "busy", 0])

    ProcessSet(rig.store).quiet()

    assert worker.store.beat(rig.link, ["info", json.dumps(INFO)]).signal == "TSTP"


@pytest.mark.every_server
def test_what_runs_is_shown_with_where_and_since_when(rig: Rig) -> None:
    rig.edge(1)
    worker = rig.worker("host:7:aa")
    [job] = worker.fetch()
    work = {"queue": "default", "payload": job.raw.decode(), "run_at": 1795293773}
    worker.store.beat(rig.link, ["info", json.dumps(INFO)], ["1.1", json.dumps(work)])

    [running] = WorkSet(rig.store)

    assert (running.identity, running.thread) == ("host:7:aa", "1.1")
    assert running.since == datetime.fromtimestamp(1795293773, UTC)
    assert (running.job.jid, running.job.args, running.job.queue) == (name(1), [1], "default")
    assert running.job.location.state == "running"
    assert WorkSet(rig.store).find(name(1)) == running
    assert WorkSet(rig.store).find(name(2)) is None


@pytest.mark.parametrize("key", ["host:7:aa:work", "host:7:aa:workers"])
def test_what_ruby_runs_is_shown_under_either_key(rig: Rig, key: str) -> None:
    beat(rig, "host:7:aa")
    text = {"queue": "low", "payload": foreign().decode(), "run_at": 1795293773}
    inner = {**text, "payload": json.loads(foreign())}
    rig.raw.hset(key, mapping={"t1": json.dumps(text), "t2": json.dumps(inner), "t3": "no json"})

    works = {work.thread: work for work in WorkSet(rig.store)}

    assert works["t1"].job.class_name == works["t2"].job.class_name == "RubyJob"
    assert works["t1"].job.queue == "low"
    assert works["t3"].job.malformed
    assert works["t3"].since is None
