"""What a Ruby application pushes with Sidekiq's own client, our workers run."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from tests.interop.peers import Ask, Shop
from tests.waiting import eventually

FORMS: list[Any] = [
    [1, None],
    [2, "é → \u6f22\u5b57 🜁  "],
    [3, 2**70],
    [4, -(2**63) - 1],
    [5, 1.5e300],
    [6, {"a": [1, {"b": [None, True, False]}], "": {}}],
    [7, []],
    [8, 'quotes " and \\ and \n and \u0000'],
]


def test_every_form_of_arguments_arrives_as_ruby_pushed_it(shop: Shop, ruby: Ask) -> None:
    jids = []
    for args in FORMS:
        text = json.dumps(json.dumps(args))  # a Ruby literal, as far as these texts go
        jids.append(ruby(f"Shop::Echo.perform_async(*JSON.parse({text}))"))
    shop.python()
    eventually(lambda: len(shop.notes()) == len(FORMS))
    ran = {note["jid"]: note["args"] for note in shop.notes()}
    assert ran == dict(zip(jids, FORMS, strict=True))


def test_a_bulk_push_of_ruby_runs_once_each(shop: Shop, ruby: Ask, raw: redis.Redis) -> None:
    jids = ruby("Shop::Echo.perform_bulk((0...2500).map { |n| [n] })")
    shop.python("-c", "4")
    eventually(lambda: len(shop.notes()) >= 2500, 20)
    assert shop.ran("python") == dict.fromkeys(jids, 1)
    assert raw.llen("queue:default") == 0


@pytest.mark.parametrize(
    "push", ["perform_in(0.3, 7)", "perform_at(Time.now.to_f + 0.3, 7)", "perform_in(-5, 7)"]
)
def test_a_job_that_ruby_scheduled_runs_when_it_is_due(
    shop: Shop, ruby: Ask, raw: redis.Redis, push: str
) -> None:
    shop.python()
    jid = ruby(f"Shop::Echo.{push}")
    eventually(lambda: shop.ran("python") == {jid: 1})
    assert raw.zcard("schedule") == 0


def test_options_set_by_ruby_hold(shop: Shop, ruby: Ask) -> None:
    shop.python("-q", "other")
    jid = ruby(
        "Shop::Fragile.set(queue: 'other', retry: 0, backtrace: true, tags: ['t']).perform_async(1)"
    )
    eventually(
        lambda: ruby("Sidekiq::DeadSet.new.size") == 1
    )  # retry: 0 means dead at the first failure
    dead = ruby(
        "Sidekiq::DeadSet.new.first.then { |j| [j.jid, j.queue, j.tags, j.error_backtrace] }"
    )
    assert dead[:3] == [jid, "other", ["t"]]
    assert any("shop.py" in line for line in dead[3])  # a traceback that Ruby can read


def test_a_failure_of_a_job_from_ruby_is_written_as_sidekiq_would(shop: Shop, ruby: Ask) -> None:
    shop.python()
    jid = ruby("Shop::Fragile.perform_async(1)")
    eventually(lambda: ruby("Sidekiq::RetrySet.new.size") == 1)
    job = ruby(
        "Sidekiq::RetrySet.new.first.then { |j| j.item.merge('at' => j.at.to_f, 'now' => Time.now.to_f) }"
    )
    assert (job["jid"], job["class"], job["args"], job["queue"]) == (
        jid,
        "Shop::Fragile",
        [1],
        "default",
    )
    assert (job["retry_count"], job["error_class"]) == (0, "ValueError")
    assert job["error_message"] == "not mended: é"
    assert isinstance(job["failed_at"], float)
    assert 0 <= job["now"] - job["failed_at"] < 10
    assert 10 < job["at"] - job["failed_at"] <= 25  # Sidekiq's formula for the first retry
    assert "retried_at" not in job


def test_a_job_of_ruby_with_retry_false_is_not_kept(shop: Shop, ruby: Ask) -> None:
    shop.python()
    ruby("Shop::Fragile.set(retry: false).perform_async(1)")
    eventually(lambda: ruby("Sidekiq::Stats.new.failed") == 1)
    assert ruby(
        "[Sidekiq::RetrySet.new.size, Sidekiq::DeadSet.new.size, Sidekiq::Queue.new.size]"
    ) == [0, 0, 0]


@pytest.mark.parametrize(
    "payload",
    [
        {"class": "Shop::Echo", "args": [1]},
        {"class": "Shop::Echo", "args": [1], "jid": "0" * 24},
        {"class": "Shop::Echo", "args": [1], "retry": True},
        {"class": "Shop::Echo", "args": [1], "queue": "default", "unheard_of": {"a": 1}},
        {
            "class": "Shop::Echo",
            "args": [1],
            "created_at": 1795293818737,
            "enqueued_at": 1795293818737,
        },
    ],
    ids=["no jid", "no retry", "no jid but retry", "unknown field", "milliseconds"],
)
def test_what_a_bare_client_leaves_out_is_no_hindrance(
    shop: Shop, ruby: Ask, payload: dict[str, Any]
) -> None:
    shop.python()
    ruby(f"Sidekiq.redis {{ |r| r.lpush('queue:default', {json.dumps(json.dumps(payload))}) }}")
    eventually(lambda: shop.notes("ran", "python"))
    assert shop.notes()[0]["args"] == [1, None]


def test_a_job_that_no_class_of_ours_knows_waits_and_hinders_nobody(shop: Shop, ruby: Ask) -> None:
    shop.python()
    ruby("Sidekiq::Client.push('class' => 'Billing::Unheard', 'args' => [1])")
    jid = ruby("Shop::Echo.perform_async(2)")
    eventually(lambda: shop.ran("python") == {jid: 1})
    eventually(lambda: ruby("Sidekiq::RetrySet.new.size") == 1)
    waiting = ruby("Sidekiq::RetrySet.new.first.item")
    assert waiting["class"] == "Billing::Unheard"
    assert "Billing::Unheard" in waiting["error_message"]


def test_unique_jobs_that_ruby_pushes_twice_never_overlap_and_leave_no_lock(
    shop: Shop, ruby: Ask, raw: redis.Redis
) -> None:
    jids = [ruby("Shop::Nap.perform_async(1)") for _ in range(2)]
    shop.python()
    eventually(lambda: raw.hget("qik:counts", "superseded") == b"1")
    eventually(lambda: [note["jid"] for note in shop.notes("began")] == jids[:1])
    shop.mend()
    eventually(lambda: [note["jid"] for note in shop.notes("ran")] == jids[:1])
    eventually(lambda: not [key for key in raw.scan_iter("qik:unique:*") if raw.hlen(key) > 1])
