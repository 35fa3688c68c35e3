from __future__ import annotations

from collections.abc import Iterator
from threading import Thread
from time import time
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from qik_core.passes import Passes
from qik_core.results import Code
from qik_core.switches import Rule, Snapshot
from reconciler.engines import Engines
from reconciler.flush import flush
from reconciler.switches.acts import Order, Switcher
from reconciler.switches.settling import By
from tests.qik_core.engine import Engine as Worker
from tests.qik_core.engine import Jobs
from tests.reconciler.flushes import RUBY, Shop, by, dumps, watching
from tests.reconciler.shop import fill
from tests.waiting import eventually


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: the question about rows is tested on each."""
    return sqlite_url


@pytest.fixture
def shop(
    home: Engine, engines: Engines, raw: redis.Redis, default_client: None, redis_url: str
) -> Shop:
    return Shop(home, engines, raw)


# --- beside others -------------------------------------------------------------------------------


def neighbours(raw: Any, count: int) -> None:
    """Write keys of other applications, look-alikes of ours among them."""
    pipe = raw.pipeline(transaction=False)
    for n in range(count):
        pipe.set(f"{('app', 'qik2', 'queue', 'qik', 'reconciler')[n % 5]}:other:{n}", f"value {n}")
        if n % 5000 == 4999:
            pipe.execute()
    pipe.set("qik:trash:mine", "x")
    pipe.set("qik:trash:zzzzzzzzzzzz:queue:work", "x")
    pipe.rpush("qik:trash:0123456789ab:other", "x")
    pipe.rpush("queue:work:extra", "no job", RUBY % (7, 7))
    pipe.zadd("qik:later", {"x": 1})
    pipe.zadd("retry2", {"x": 1})
    pipe.hset("queue:hash", "a", "b")
    pipe.execute()


def beside(shop: Shop, count: int) -> None:
    """X7: flush everything beside so many foreign keys; nothing of theirs changes, and no command takes long."""
    neighbours(shop.raw, count)
    ruby = [RUBY % (n, n) for n in range(1000)]
    shop.raw.lpush("queue:ruby", *ruby[:500])
    shop.raw.zadd("schedule", {each: n for n, each in enumerate(ruby[500:700])})
    shop.raw.zadd("dead", {each: n for n, each in enumerate(ruby[700:800])})
    before = dumps(shop.raw)
    fill(shop.home, range(1, 1001))
    shop.work.perform_bulk([(n,) for n in range(1, 1001)])
    shop.raw.lpush("queue:work", *ruby[800:])
    shop.mails("a", "b")
    shop.raw.config_set("slowlog-log-slower-than", 10_000)
    shop.raw.config_set("slowlog-max-len", 10_000)
    shop.raw.slowlog_reset()
    seen: list[str] = []
    with watching(shop.raw, seen):
        done = shop.flush(lose=["Mail"])
    slow = [each["duration"] for each in shop.raw.slowlog_get(10_000)]
    assert done.jobs == 1002
    after = dumps(shop.raw)
    ours = {key for key in before if key.startswith((b"qik:epoch", b"qik:unique:"))}
    assert {key: value for key, value in before.items() if key not in ours} == {
        key: after.get(key) for key in before if key not in ours
    }
    assert shop.raws("queue:work") == ruby[800:][::-1]
    commands = {each.split()[1].upper() for each in seen}
    assert "EVALSHA" in commands
    assert not {each for each in commands if each.startswith("FLUSH")} | commands & {"KEYS"}
    sent = [each for each in seen if not each.startswith("lua ")]
    assert len(slow) <= max(1, len(sent) // 1000), slow  # over 10 ms: none but one in a thousand
    # Over 50 ms: none; of hundreds of thousands the machine may take away a few.
    assert sum(each > 50_000 for each in slow) <= len(sent) // 10_000, slow


def test_a_flush_beside_5_000_keys_of_others_leaves_all_of_them_byte_for_byte(
    shop: Shop,
) -> None:
    beside(shop, 5_000)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_flush_beside_1_000_000_keys_of_others_leaves_all_of_them_byte_for_byte(
    shop: Shop,
) -> None:
    beside(shop, 1_000_000)


@pytest.mark.every_server
def test_a_flush_works_at_maxmemory_and_says_what_it_has_freed(shop: Shop) -> None:
    fill(shop.home, range(1, 2001))
    shop.work.perform_bulk([(n,) for n in range(1, 2001)])
    shop.mail.perform_bulk([("x" * 500,) for _ in range(2000)])
    shop.raw.config_set("maxmemory", 1_000_000)
    with pytest.raises(redis.ResponseError, match="maxmemory"):
        shop.raw.set("more", "x")

    done = shop.flush(lose=["Mail"])

    assert done.jobs == 4000
    assert done.before - done.after > 1_000_000
    assert shop.jobs() == 0


@pytest.fixture
def runs(redis_url: str) -> Iterator[Jobs]:
    """50 jobs that run until `open`, in a worker that beats."""
    jobs = Jobs()
    jobs.slow(*range(1, 51))
    worker = Worker(redis_url, jobs, size=50, queues=("work",), beats=True, timeout=5.0)
    yield jobs
    jobs.open()
    worker.stop()


def test_a_flush_of_everything_leaves_50_running_jobs_alone_and_their_locks_come_back(
    shop: Shop, runs: Jobs
) -> None:
    fill(shop.home, range(1, 101))
    shop.push(*range(1, 51))
    eventually(lambda: len(runs.runs) == 50, 60)
    shop.push(*range(51, 101))
    before = shop.raw.get("qik:epoch").split()[0]

    found = shop.plan()
    assert found.lines["Work", "work"].running + found.lines["Work", "work"].jobs == 100
    shop.flush()

    assert shop.raw.get("qik:epoch").split()[0] != before
    eventually(lambda: running(shop) == 50, 60, "all locks are asserted again")
    told = shop.means().passes.push(shop.work, [(n,) for n in range(1, 51)])
    assert {code.value for code in told.codes} == {"duplicate_running"}
    runs.open()
    eventually(lambda: sum(runs.ends.values()) == 50, 60)
    eventually(lambda: not shop.locks(), 60)
    assert runs.overlaps == []
    assert set(runs.runs.values()) == {1}


def test_a_flush_behind_a_switch_of_this_moment_waits_for_passes_that_looked_before(
    shop: Shop,
) -> None:
    shop.rows(1)
    shop.push(1)
    plan, passes, said = shop.plan(), Passes(), list[str]()

    def tell() -> None:
        while passes.push(shop.work, [(1,)]).codes != [Code.REFUSED]:
            pass

    passes.switches()  # from now on it goes by these for a second
    Switcher(shop.home, Passes()).disable(Order(flag="disable_work", by=By("ann", "a storm")))
    telling = Thread(target=tell)
    telling.start()
    done = flush(plan, shop.means(), by(), waits=said.append)
    telling.join(60)

    assert (shop.jobs(), done.jobs) == (0, 1)
    assert said == [
        "kill switches were changed a moment ago: this waits until every process goes by them"
    ]


def test_a_flush_waits_for_no_switch_that_all_have_seen(shop: Shop) -> None:
    Passes().publish(Snapshot(int(time() - 60) * 1000, {"disable_work": (Rule(source="sql"),)}))
    said: list[str] = []

    flush(shop.plan(), shop.means(), by(), waits=said.append)

    assert said == []


def running(shop: Shop) -> int:
    return sum(record.startswith(b"r") for record in shop.locks().values())
