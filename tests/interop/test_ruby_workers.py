"""What we push, a Ruby worker runs; also what was scheduled, what failed there, and what failed with us."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest
import redis

from tests.interop.peers import Ask, Shop, as_ours, jid_of
from tests.interop.shop import Echo, Fragile
from tests.interop.test_ruby_pushes import FORMS
from tests.waiting import eventually

OnRuby = Echo.set(queue="ruby")
OURS = [args for args in FORMS if not isinstance(args[-1], int) or abs(args[-1]) < 2**63]
"""We push no integer beyond 64 bits: few readers of JSON keep one."""


@pytest.mark.parametrize("wire", ["sidekiq7", "sidekiq8"])
def test_every_form_of_arguments_arrives_in_ruby_as_we_pushed_it(
    shop: Shop, redis_url: str, wire: str
) -> None:
    as_ours(redis_url, wire)
    jids = [jid_of(OnRuby.perform_async(*args)) for args in OURS]
    shop.ruby()
    eventually(lambda: len(shop.notes()) == len(OURS))
    ran = {note["jid"]: note["args"] for note in shop.notes("ran", "ruby")}
    assert ran == dict(zip(jids, OURS, strict=True))


@pytest.mark.parametrize("wire", ["sidekiq7", "sidekiq8"])
def test_jobs_we_scheduled_run_in_ruby_when_they_are_due(
    shop: Shop, redis_url: str, raw: redis.Redis, wire: str
) -> None:
    as_ours(redis_url, wire)
    shop.ruby()
    due = time.time() + 0.5
    jids = {
        jid_of(OnRuby.perform_in(timedelta(seconds=0.5), 1)),
        jid_of(OnRuby.perform_at(due, 2)),
        jid_of(OnRuby.set(unique_for=60).perform_in(0.5, 3)),
    }
    eventually(lambda: shop.ran("ruby") == dict.fromkeys(jids, 1))
    assert time.time() >= due
    assert raw.zcard("schedule") == 0


def test_a_bulk_push_of_ours_runs_in_ruby_once_each(shop: Shop) -> None:
    pushed = OnRuby.perform_bulk([(n,) for n in range(2500)])
    shop.ruby()
    eventually(lambda: len(shop.notes()) >= 2500, 30)
    assert shop.ran("ruby") == dict.fromkeys(pushed.jids, 1)


def test_a_job_of_ours_that_fails_in_ruby_is_retried_there(shop: Shop, ruby: Ask) -> None:
    shop.ruby()
    jid = jid_of(Fragile.set(queue="ruby").perform_async(1))
    eventually(lambda: ruby("Sidekiq::RetrySet.new.size") == 1)
    assert ruby("Sidekiq::RetrySet.new.first.then { |j| [j.jid, j['error_class']] }") == [
        jid,
        "ArgumentError",
    ]
    shop.mend()
    ruby("Sidekiq::RetrySet.new.first.reschedule(Time.now.to_f)")
    eventually(lambda: [note["jid"] for note in shop.notes("mended", "ruby")] == [jid])
    assert ruby("[Sidekiq::RetrySet.new.size, Sidekiq::Stats.new.failed > 0]")[0] == 0


def test_a_job_that_failed_with_us_is_retried_by_ruby(
    shop: Shop, ruby: Ask, raw: redis.Redis
) -> None:
    worker = shop.python("-q", "ruby")
    jid = jid_of(Fragile.set(queue="ruby").perform_async(1))
    eventually(lambda: raw.zcard("retry") == 1)
    worker.terminate()
    assert worker.wait(10) == 0
    assert ruby("Sidekiq::RetrySet.new.first['error_class']") == "ValueError"
    shop.mend()
    shop.ruby()
    assert ruby("Sidekiq::RetrySet.new.first.reschedule(Time.now.to_f)") is not None
    eventually(lambda: shop.notes("mended", "ruby"), 20)
    assert [(note["who"], note["jid"]) for note in shop.notes()] == [("python", jid), ("ruby", jid)]


def test_a_job_that_failed_in_ruby_is_retried_by_us(
    shop: Shop, ruby: Ask, raw: redis.Redis
) -> None:
    ruby_worker = shop.ruby(SHOP_POLL="60")
    jid = jid_of(Fragile.set(queue="ruby").perform_async(1))
    eventually(lambda: raw.zcard("retry") == 1)
    ruby_worker.terminate()
    ruby_worker.wait(20)
    (payload,) = _stored(raw, "retry")
    assert (payload["retry_count"], payload["error_class"]) == (0, "ArgumentError")
    ruby("Sidekiq::RetrySet.new.first.reschedule(Time.now.to_f)")
    shop.python("-q", "ruby")
    eventually(lambda: shop.ran("python")[jid] == 1)
    eventually(lambda: _counts(raw) == [1])
    (payload,) = _stored(raw, "retry")
    assert (payload["jid"], payload["error_class"]) == (jid, "ValueError")
    assert isinstance(payload["retried_at"], float)
    assert payload["failed_at"] <= payload["retried_at"]


def test_sidekiq_reads_the_times_of_our_jobs(shop: Shop, ruby: Ask) -> None:
    OnRuby.perform_async(1)
    created, latency, size = ruby(
        "q = Sidekiq::Queue.new('ruby'); [q.first.created_at.to_f, q.latency, q.size]"
    )
    assert abs(created - time.time()) < 5
    assert 0 <= latency < 5
    assert size == 1


def _stored(raw: redis.Redis, key: str) -> list[dict[str, Any]]:
    found: Any = raw.zrange(key, 0, -1)
    return [json.loads(each) for each in found]


def _counts(raw: redis.Redis) -> list[int]:
    return [payload["retry_count"] for payload in _stored(raw, "retry")]
