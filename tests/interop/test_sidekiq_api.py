"""Sidekiq's own API and pages list what is ours, and their buttons act on it."""

from __future__ import annotations

import json
import re
import socket
import time
from datetime import timedelta
from typing import Any

import pytest
import redis

from qik_core import Enqueued
from tests.interop.peers import Ask, Shop, jid_of
from tests.interop.shop import Echo, Fragile, Nap, Once
from tests.waiting import eventually, never

RETRY = "Sidekiq::RetrySet.new"
DEAD = "Sidekiq::DeadSet.new"
SCHEDULED = "Sidekiq::ScheduledSet.new"


@pytest.fixture
def busy(shop: Shop, ruby: Ask) -> dict[str, str]:
    """One of everything: a running job, three queued, one scheduled, one to be retried, one dead. Jids by state."""
    jids = {
        "running": jid_of(Nap.perform_async(1)),
        "retry": jid_of(Fragile.perform_async(2)),
        "dead": jid_of(Fragile.set(retry=0).perform_async(3)),
        "scheduled": jid_of(Once.perform_in(timedelta(hours=1), 4)),
    }
    Echo.set(queue="slow").perform_bulk([(n, "<b>é</b>") for n in range(3)])
    shop.python("-q", "default", "-q", "other", "-c", "3")
    eventually(lambda: shop.notes("began"))
    eventually(lambda: ruby(f"[{RETRY}.size, {DEAD}.size]") == [1, 1])
    # The beat that is on its way may still name those that have failed meanwhile.
    at = eventually(lambda: beaten(ruby))
    eventually(lambda: beaten(ruby) > at)
    eventually(lambda: ruby("Sidekiq::Workers.new.size") == 1)
    return jids


def beaten(ruby: Ask) -> float:
    """Return the moment of the last beat, 0 before the first."""
    return float(ruby("Sidekiq::ProcessSet.new.map { |each| each['beat'] }.max || 0"))


def page(ruby: Ask, path: str) -> str:
    status, body = ruby(f"get({json.dumps(path)})")
    assert status == 200, (path, body[:500])
    return str(body)


def press(ruby: Ask, path: str, **form: str | list[str]) -> None:
    status, _ = ruby(f"post({json.dumps(path)}, JSON.parse({json.dumps(json.dumps(form))}))")
    assert status == 302, path


def key_on(ruby: Ask, path: str, jid: str) -> str:
    """Return how Sidekiq's page of a sorted set names one job: its score and jid."""
    keys = re.findall(r"name=.key\[\]. value=.([^'\"]+)", page(ruby, path))
    (key,) = [key for key in keys if key.endswith(jid)]
    return str(key)


# --- what is listed ------------------------------------------------------------------------------


def test_processes_and_running_jobs_are_listed(busy: dict[str, str], ruby: Ask) -> None:
    (process,) = ruby("Sidekiq::ProcessSet.new.map { |p| p.instance_variable_get(:@attribs) }")
    assert process["hostname"] == socket.gethostname()
    assert process["concurrency"] == 3
    assert process["queues"] == ["default", "other"]
    assert process["tag"]
    assert process["busy"] == 1
    assert process["quiet"] == "false"
    assert process["rss"] > 10_000
    assert abs(process["started_at"] - time.time()) < 60
    ((identity, work),) = ruby("Sidekiq::Workers.new.map { |pid, _, work| [pid, work] }")
    assert identity == process["identity"]
    assert work["queue"] == "default"
    assert work["payload"]["jid"] == busy["running"]
    assert work["payload"]["args"] == [1]
    assert abs(work["run_at"] - time.time()) < 60


def test_a_running_job_is_listed_with_the_time_at_which_it_began(
    busy: dict[str, str], ruby: Ask
) -> None:
    began = ruby("Sidekiq::Workers.new.first.last['run_at']")
    eventually(lambda: beaten(ruby) >= began + 2)
    assert ruby("Sidekiq::Workers.new.first.last['run_at']") == began


def test_totals_and_sizes_are_listed(busy: dict[str, str], ruby: Ask) -> None:
    stats = ruby(
        "Sidekiq::Stats.new.then { |s| {processed: s.processed, failed: s.failed, dead: s.dead_size,"
        " retry: s.retry_size, scheduled: s.scheduled_size, enqueued: s.enqueued, busy: s.workers_size,"
        " processes: s.processes_size, queues: s.queues} }"
    )
    assert stats == {
        "processed": 2, "failed": 2, "dead": 1, "retry": 1, "scheduled": 1, "enqueued": 3, "busy": 1,
        "processes": 1, "queues": {"slow": 3, "default": 0},
    }  # fmt: skip
    today = ruby(
        "Sidekiq::Stats::History.new(1).then { |h| [h.processed.values, h.failed.values] }"
    )
    assert today == [[2], [2]]


def test_every_set_is_listed_with_its_jobs(busy: dict[str, str], ruby: Ask) -> None:
    for where, state in ((RETRY, "retry"), (DEAD, "dead"), (SCHEDULED, "scheduled")):
        (job,) = ruby(f"{where}.map {{ |j| [j.jid, j.klass, j.display_args, j.queue] }}")
        assert job[0] == busy[state]
        assert job[3] == "default"
    assert ruby(f"{RETRY}.find_job('{busy['retry']}')['error_class']") == "ValueError"
    latest = ruby("Sidekiq::Queue.new('slow').map { |j| [j.klass, j.args] }")
    assert latest == [["Shop::Echo", [n, "<b>é</b>"]] for n in (2, 1, 0)]


def test_every_page_shows_ours(busy: dict[str, str], ruby: Ask) -> None:
    assert "Sidekiq" in page(ruby, "/")
    shown = page(ruby, "/busy")
    assert busy["running"] in shown
    assert socket.gethostname() in shown
    assert "slow" in page(ruby, "/queues")
    assert "&lt;b&gt;" in page(ruby, "/queues/slow")
    for path, state in (("/retries", "retry"), ("/morgue", "dead"), ("/scheduled", "scheduled")):
        key = key_on(ruby, path, busy[state])
        assert busy[state] in page(ruby, f"{path}/{key}")
    assert "not mended" in page(ruby, "/retries")
    stats = json.loads(page(ruby, "/stats"))["sidekiq"]
    assert (stats["busy"], stats["processes"], stats["enqueued"]) == (1, 1, 3)
    assert json.loads(page(ruby, "/stats/queues"))["slow"] == 3


def test_a_process_that_has_left_is_listed_no_more(shop: Shop, ruby: Ask) -> None:
    worker = shop.python()
    eventually(lambda: ruby("Sidekiq::ProcessSet.new.size") == 1)
    worker.terminate()
    assert worker.wait(10) == 0
    assert ruby("Sidekiq::ProcessSet.new.size") == 0
    assert "Sidekiq" in page(ruby, "/busy")


# --- buttons of the sorted sets ------------------------------------------------------------------


def test_retry_now_on_the_page_runs_the_job_again(
    shop: Shop, busy: dict[str, str], ruby: Ask
) -> None:
    shop.mend()
    press(ruby, "/retries/" + key_on(ruby, "/retries", busy["retry"]), retry="Retry")
    eventually(lambda: [note["jid"] for note in shop.notes("mended")] == [busy["retry"]])
    assert ruby(f"{RETRY}.size") == 0


def test_kill_on_the_page_makes_a_retrying_job_dead(busy: dict[str, str], ruby: Ask) -> None:
    press(ruby, "/retries/" + key_on(ruby, "/retries", busy["retry"]), kill="Kill")
    dead = ruby(f"{DEAD}.map(&:jid)")
    assert sorted(dead) == sorted([busy["dead"], busy["retry"]])
    assert ruby(f"{RETRY}.size") == 0


def test_delete_on_the_page_removes_a_retrying_job(
    shop: Shop, busy: dict[str, str], ruby: Ask
) -> None:
    shop.mend()
    press(ruby, "/retries", key=[key_on(ruby, "/retries", busy["retry"])], delete="Delete")
    assert ruby(f"{RETRY}.size") == 0
    never(lambda: shop.notes("mended"), 0.5)


def test_retry_on_the_page_of_the_dead_runs_the_job_again(
    shop: Shop, busy: dict[str, str], ruby: Ask
) -> None:
    shop.mend()
    press(ruby, "/morgue", key=[key_on(ruby, "/morgue", busy["dead"])], retry="Retry")
    eventually(lambda: [note["jid"] for note in shop.notes("mended")] == [busy["dead"]])
    assert ruby(f"{DEAD}.size") == 0


def test_add_to_queue_on_the_page_runs_a_scheduled_job_now_and_frees_its_lock(
    shop: Shop, busy: dict[str, str], ruby: Ask, raw: redis.Redis
) -> None:
    key = key_on(ruby, "/scheduled", busy["scheduled"])
    press(ruby, "/scheduled", key=[key], add_to_queue="AddToQueue")
    eventually(lambda: busy["scheduled"] in shop.ran("python"))
    eventually(lambda: isinstance(Once.perform_async(4), Enqueued))  # its lock went with it
    assert raw.zcard("schedule") == 0


def test_the_buttons_for_all_act_on_all(shop: Shop, busy: dict[str, str], ruby: Ask) -> None:
    shop.mend()
    press(ruby, "/morgue/all/retry")
    press(ruby, "/retries/all/retry")
    eventually(lambda: len(shop.notes("mended")) == 2)
    assert ruby(f"[{DEAD}.size, {RETRY}.size]") == [0, 0]


def test_deleting_a_job_and_a_queue_on_the_page_hinders_nobody(
    shop: Shop, busy: dict[str, str], ruby: Ask, raw: redis.Redis
) -> None:
    (newest, *_) = ruby("Sidekiq::Queue.new('slow').map(&:value)")
    press(ruby, "/queues/slow/delete", key_val=newest)
    assert raw.llen("queue:slow") == 2
    press(ruby, "/queues/slow")
    assert raw.llen("queue:slow") == 0
    jid = jid_of(Echo.perform_async(9))
    eventually(lambda: shop.ran("python")[jid] == 1)


# --- buttons of processes ------------------------------------------------------------------------


def test_quiet_and_stop_on_the_page_act_on_our_process(shop: Shop, ruby: Ask) -> None:
    shop.mend()
    worker = shop.python()
    eventually(lambda: ruby("Sidekiq::ProcessSet.new.size") == 1)
    identity = ruby("Sidekiq::ProcessSet.new.first['identity']")
    press(ruby, "/busy", identity=identity, quiet="Quiet")
    eventually(lambda: "quiet: no more jobs" in shop.log())
    eventually(lambda: ruby("Sidekiq::ProcessSet.new.first['quiet']") == "true")
    Nap.perform_async(1)
    never(lambda: shop.notes("began"), 0.5)
    press(ruby, "/busy", identity=identity, stop="Stop")
    eventually(lambda: not ruby(f"Sidekiq.redis {{ |r| r.sismember('processes', '{identity}') }}"))
    worker.terminate()
    assert worker.wait(10) == 0


def test_quiet_of_all_processes_through_the_api_acts_on_ours(shop: Shop, ruby: Ask) -> None:
    shop.python("-p", "2")
    eventually(lambda: ruby("Sidekiq::ProcessSet.new.size") == 2)
    ruby("Sidekiq::ProcessSet.new.each(&:quiet!).size")
    eventually(lambda: shop.log().count("quiet: no more jobs") == 2)


# --- what the API changes ------------------------------------------------------------------------


def test_a_job_that_ruby_reschedules_runs_then(shop: Shop, busy: dict[str, str], ruby: Ask) -> None:
    ruby(f"{SCHEDULED}.first.reschedule(Time.now.to_f + 0.3)")
    eventually(lambda: busy["scheduled"] in shop.ran("python"))


def test_what_ruby_killed_by_hand_stays_readable_for_us(
    shop: Shop, busy: dict[str, str], ruby: Ask, raw: redis.Redis
) -> None:
    ruby(f"{SCHEDULED}.first.kill")
    found: Any = raw.zrange("dead", 0, -1)
    assert busy["scheduled"] in {json.loads(each)["jid"] for each in found}
    jid = jid_of(Echo.perform_async(9))
    eventually(lambda: shop.ran("python")[jid] == 1)
