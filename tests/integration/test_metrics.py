"""`qik work` with a port for metrics, as a Prometheus and a kubelet have it: real processes, asked over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import redis

from tests.integration.shop import NOTES, Shop
from tests.probing import Reply, check_with_promtool, free_port, get, samples
from tests.qik_core.test_minutes import numbers as numbers_of_minutes
from tests.waiting import alive, eventually

APP = (
    NOTES
    + """
class Note(Job, retry=3):
    def perform(self, n: int) -> None:
        note("start", n)

class Fail(Job, retry=3):
    def perform(self, n: int) -> None:
        raise ValueError(n)

class Push(Job, retry=3):
    def perform(self, n: int) -> None:
        Note.perform_async(n)

class Wait(Job, queue="slow", retry=3):
    def perform(self, n: int) -> None:
        note("start", n)
        while not (HERE / "go").exists():
            time.sleep(0.01)

class Never(Job, retry=3):
    def perform(self, n: int) -> None: ...
"""
)


@pytest.fixture
def port(shop: Shop) -> int:
    port = free_port()
    shop.environment["QIK_METRICS_PORT"] = str(port)
    return port


def numbers(port: int) -> dict[str, float]:
    return samples(get(port, "/metrics").body)


def test_a_worker_tells_how_its_jobs_ended_and_how_long_they_took(shop: Shop, port: int) -> None:
    shop.work("-p", "2")

    shop.push("Note", *range(20))
    shop.push("Fail", 1)
    shop.push("Push", *range(3))
    eventually(lambda: numbers(port)['qik_jobs_total{class="Note",end="done"}'] == 23, 20)

    eventually(lambda: numbers(port)['qik_jobs_total{class="Fail",end="retry"}'] == 1)
    seen = numbers(port)
    assert seen['qik_job_duration_seconds_count{class="Note"}'] == 23
    assert seen['qik_job_duration_seconds_bucket{class="Note",le="+Inf"}'] == 23
    assert seen['workqueue_queue_duration_seconds_count{name="default"}'] == 27
    assert seen['qik_pushes_total{code="enqueued"}'] == 3
    assert seen['qik_jobs_total{class="Never",end="done"}'] == 0  # there before the first one
    assert seen['qik_worker_processes{state="ready"}'] == 2
    assert seen["qik_threads"] == 20
    assert seen["qik_retry_jobs"] == 1
    assert seen["qik_redis_up"] == 1


def test_prometheus_finds_no_fault_with_what_a_worker_answers(
    shop: Shop, port: int, promtool: str
) -> None:
    shop.work()
    shop.push("Note", 1)
    eventually(lambda: shop.notes("start"))

    eventually(lambda: "workqueue_depth" in get(port, "/metrics").body)

    answer = get(port, "/metrics")
    assert answer.kind == "text/plain; version=0.0.4; charset=utf-8"
    check_with_promtool(promtool, answer.body)


def test_what_a_child_counted_stays_counted_when_it_is_replaced(shop: Shop, port: int) -> None:
    worker = shop.work()
    shop.push("Note", *range(5))
    eventually(lambda: numbers(port)['qik_jobs_total{class="Note",end="done"}'] == 5)
    (child,) = shop.children(worker)

    os.kill(child, signal.SIGKILL)
    eventually(lambda: not alive(child))
    eventually(lambda: get(port, "/readyz").status == 200, 20)
    shop.push("Note", *range(5, 8))

    eventually(lambda: numbers(port)['qik_jobs_total{class="Note",end="done"}'] == 8)
    assert numbers(port)["qik_worker_deaths_total"] == 1


def test_a_worker_lives_while_redis_is_away_and_is_ready_only_with_it(
    shop: Shop, port: int, raw: redis.Redis
) -> None:
    shop.work()
    eventually(lambda: get(port, "/readyz").status == 200, 20)
    assert get(port, "/livez") == Reply(200, "ok\n", "text/plain; charset=utf-8")

    server = raw.info("server")["process_id"]
    os.kill(server, signal.SIGSTOP)
    try:
        eventually(lambda: get(port, "/readyz").status == 503, 20)
        assert "Redis does not answer it" in get(port, "/readyz").body
        assert get(port, "/livez").status == 200
        assert numbers(port)["qik_redis_up"] == 0
        assert get(port, "/scale").status == 503
        assert "Redis does not answer it" in get(port, "/readyz").body
    finally:
        os.kill(server, signal.SIGCONT)
    eventually(lambda: get(port, "/readyz").status == 200, 20)


def test_the_parent_answers_while_a_child_stands_still(shop: Shop, port: int) -> None:
    shop.environment["QIK_LEASE"] = "30"  # it must outlive its silence
    worker = shop.work("-p", "2")
    shop.push("Note", *range(4))
    eventually(lambda: numbers(port)['qik_jobs_total{class="Note",end="done"}'] == 4)
    first = shop.children(worker)[0]

    os.kill(first, signal.SIGSTOP)
    try:
        seen = numbers(port)
    finally:
        os.kill(first, signal.SIGCONT)

    assert seen['qik_jobs_total{class="Note",end="done"}'] == 4
    assert seen["qik_redis_up"] == 1
    eventually(lambda: numbers(port)["qik_threads"] == 20)


def test_an_autoscaler_is_told_what_waits_and_for_how_long(shop: Shop, port: int) -> None:
    shop.work("-q", "slow", "-c", "1")
    shop.push("Wait", *range(5))
    eventually(lambda: shop.notes("start"))

    seen = eventually(lambda: (s := json.loads(get(port, "/scale").body))["latency"] > 0.2 and s)

    assert seen["backlog"] == seen["queues"]["slow"]["backlog"] >= 1
    assert set(seen["queues"]) == {"slow"}
    assert numbers(port)['workqueue_longest_running_processor_seconds{name="slow"}'] > 0
    shop.go()
    eventually(lambda: json.loads(get(port, "/scale").body)["backlog"] == 0)


def test_a_worker_whose_port_is_taken_works_and_listens_when_it_is_free(
    shop: Shop, port: int
) -> None:
    with socket.create_server(("127.0.0.1", port)):
        shop.work()
        eventually(lambda: "it is tried again every second" in shop.log())
        shop.push("Note", 1)
        eventually(lambda: shop.notes("start"))
    eventually(lambda: get(port, "/livez").status == 200)


def test_without_a_port_nobody_listens(shop: Shop) -> None:
    worker = shop.work()

    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    listening = {f"socket:[{line[9]}]" for line in lines if line[3] == "0A"}
    for pid in (worker.pid, *shop.children(worker)):
        files = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
        assert not files & listening
    assert len(list(Path(f"/proc/{worker.pid}/task").iterdir())) == 1


def test_workers_without_a_port_tell_redis_what_each_class_ran_the_last_of_it_when_they_end(
    shop: Shop, raw: redis.Redis
) -> None:
    worker = shop.work("-p", "2")
    shop.push("Note", *range(40))
    shop.push("Fail", 1)
    eventually(lambda: raw.get("stat:processed") == b"41", 20)

    worker.send_signal(signal.SIGTERM)
    worker.wait(20)

    total = numbers_of_minutes(raw, "j|20*")
    assert (total[b"Note|p"], total[b"Fail|p"], total[b"Fail|f"]) == (40, 1, 1)
