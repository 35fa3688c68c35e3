"""A Redis that is as full as it gets, for what must not take longer there."""

from __future__ import annotations

import json
import time

import redis

from qik_core.store import Store, minutes

CHUNK = 10_000
QUEUED, RETRYING, DEAD, PROCESSES, THREADS = 1_000_000, 500_000, 200_000, 1_000, 5
SCHEDULED, LATER, HELD = 300_000, 100_000, 100_000
CLASSES = 100


def job(number: int, *, failed: bool = False) -> bytes:
    head = f'{{"qik":"-","jid":"{number:024x}","queue":"q{number % 20}","class":"Charge{number % CLASSES}"'
    body = f',"args":[{number},"{"x" * 40}"],"retry":25,"created_at":1800000000.5'
    last = ',"error_class":"ValueError","error_message":"no card","retry_count":3,"failed_at":1800000000.5'
    queued = ',"enqueued_at":1800000000.5'
    return f"{head}{body}{last if failed else queued}}}".encode()


def _fill_places(raw: redis.Redis) -> None:
    for start in range(0, QUEUED, CHUNK):
        pipe = raw.pipeline(transaction=False)
        for queue in range(20):
            pipe.lpush(f"queue:q{queue}", *map(job, range(start + queue, start + CHUNK, 20)))
        pipe.execute()
    raw.sadd("queues", *(f"q{queue}" for queue in range(20)))
    sets = (("retry", RETRYING), ("dead", DEAD), ("schedule", SCHEDULED), ("qik:later:q1", LATER))
    for key, count in sets:
        for start in range(0, count, CHUNK):
            jobs = (
                job(number, failed=key in {"retry", "dead"})
                for number in range(start, start + CHUNK)
            )
            raw.zadd(key, {job: 1.8e9 + start + number for number, job in enumerate(jobs)})
    for start in range(0, HELD, CHUNK):
        raw.lpush("qik:held:Charge1", *map(job, range(start, start + CHUNK)))
    raw.hset("qik:held", "Charge1", HELD * len(job(HELD)))


def _list_processes(raw: redis.Redis) -> None:
    pipe, now = raw.pipeline(transaction=False), time.time()
    for number in range(PROCESSES):
        identity = f"host-{number % 50}:{number}:0123456789ab"
        info = {
            "hostname": "host", "pid": number, "concurrency": 10, "labels": ["qik"], "identity": identity,
            "queues": [f"q{queue}" for queue in range(20)], "started_at": now, "tag": "shop",
        }  # fmt: skip
        pipe.sadd("processes", identity)
        pipe.zadd("qik:alive", {identity: now})
        pipe.hset(identity, mapping={"info": json.dumps(info), "beat": now, "busy": THREADS})
        for thread in range(THREADS):
            work = {"queue": "q1", "payload": job(thread).decode(), "run_at": now}
            pipe.hset(f"{identity}:work", f"t{thread}", json.dumps(work))
            pipe.hset(f"qik:working:{identity}", f"f{thread}", job(thread))
    pipe.execute()


def fill(raw: redis.Redis, url: str) -> None:
    """Fill an empty server: queues, sets, and processes that are busy."""
    store = Store(url, birth_ms=0)
    store.look()
    _fill_places(raw)
    _list_processes(raw)
    _fill_minutes(store)


def _fill_minutes(store: Store) -> None:
    """Let every class have run in each minute of eight hours."""
    now, buckets = time.time(), [7] * (len(minutes.BUCKETS) + 1)
    ran = [minutes.Ran(f"Charge{number}", 900, 9, 12_345, buckets) for number in range(CLASSES)]
    for back in range(480):
        assert not minutes.add(store.links.run, now - 60 * back, ran, eight=True)


def cpu(raw: redis.Redis) -> float:
    """Return the CPU seconds of this process and of the server: what something takes where nobody else works."""
    info = raw.info("cpu")
    return time.process_time() + float(info["used_cpu_user"]) + float(info["used_cpu_sys"])
