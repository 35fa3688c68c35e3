from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable

import pytest

from qik_core.capsule import Capsule, Capsules
from qik_core.crew import Crew
from qik_core.heartbeat import Ticker, Watch, process_info, resident_kb
from qik_core.shared import Shared, clock
from tests.faultproxy import FaultProxy, is_script
from tests.qik_core.engine import Jobs, Start, drained, held
from tests.qik_core.store.rig import LIMITS, Rig, jid
from tests.waiting import eventually, never

H, L = LIMITS.heartbeat, LIMITS.lease
PATIENCE = L


# --- who is lost ---------------------------------------------------------------


def look(
    watch: Watch, beat: bytes, until: float, *, since: float = 100.0
) -> list[tuple[float, str]]:
    """Look every H at one process with this beat; who was convicted, and when."""
    found, at = [], since
    while at <= until:
        found += [(at - since, identity) for identity in watch.convict({"a": beat}, at)]
        at += H
    return found


def test_a_process_is_convicted_when_its_beat_was_the_same_for_a_lease() -> None:
    assert look(Watch(LIMITS), b"7.5", 100 + PATIENCE) == [(PATIENCE, "a")]


def test_a_beat_that_changes_acquits() -> None:
    watch = Watch(LIMITS)
    assert look(watch, b"7.5", 101.5) == []
    assert look(watch, b"8.0", 103.5, since=102.0) == []


def test_age_alone_convicts_nobody() -> None:
    assert Watch(LIMITS).convict({"a": b"1.0", "b": b"-"}, 1e9) == []


def test_a_look_that_failed_makes_everything_seen_before_count_nothing() -> None:
    watch = Watch(LIMITS)
    look(watch, b"7.5", 101.5)
    watch.blind()
    assert look(watch, b"7.5", 103.5, since=102.0) == []


def test_a_gap_between_two_looks_makes_everything_seen_before_count_nothing() -> None:
    watch = Watch(LIMITS)
    look(watch, b"7.5", 102.5)
    assert watch.convict({"a": b"7.5"}, 102.5 + 2 * H + 0.1) == []


def test_a_missing_beat_counts_as_unchanged() -> None:
    watch = Watch(LIMITS)
    look(watch, b"7.5", 101.0)
    assert look(watch, b"-", 103.0, since=101.5) == [(1.5, "a")]


def test_a_process_that_never_beat_is_convicted_by_the_same_rule() -> None:
    assert look(Watch(LIMITS), b"-", 100 + PATIENCE) == [(PATIENCE, "a")]


def test_who_went_away_is_forgotten() -> None:
    watch = Watch(LIMITS)
    look(watch, b"7.5", 101.5)
    watch.convict({}, 102.0)
    assert look(watch, b"7.5", 103.5, since=102.5) == []


def test_a_lively_process_is_no_cover_for_a_lost_one() -> None:
    watch, convicted = Watch(LIMITS), []
    for number in range(8):
        convicted += watch.convict({"lost": b"7.5", "lively": b"%d" % number}, 100 + number * H)
    assert convicted == ["lost", "lost"]


# --- a beat --------------------------------------------------------------------


def test_a_beat_says_what_sidekiqs_pages_want_to_know(rig: Rig, jobs: Jobs, start: Start) -> None:
    jobs.slow(1)
    engine = start(size=4)
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    engine.heartbeat.beat()

    assert rig.raw.sismember("processes", engine.identity)
    assert rig.raw.zscore("qik:alive", engine.identity) == pytest.approx(time.time(), abs=5)
    fields = rig.raw.hgetall(engine.identity)
    assert (fields[b"busy"], fields[b"concurrency"], fields[b"quiet"]) == (b"1", b"4", b"false")
    assert int(fields[b"rss"]) > 1000
    assert json.loads(fields[b"info"])["identity"] == engine.identity
    (work,) = rig.raw.hvals(f"{engine.identity}:work")
    assert json.loads(work)["queue"] == "default"
    assert jid(1).decode() in json.loads(work)["payload"]


def test_what_a_process_tells_of_itself_is_all_that_sidekiqs_web_reads() -> None:
    high, low = (
        Capsule(name, Crew(Jobs().process, [print] * 5, print), list, weights, "weighted")
        for name, weights in (("default", {"high": 2, "low": 1}), ("slow", {"low": 1}))
    )
    info = process_info("shop", Capsules([high, low]), "0.1.0")
    needed = {"hostname", "started_at", "pid", "tag", "concurrency", "queues", "weights", "labels"}

    assert needed <= info.keys()
    assert info["weights"] == [{"high": 2, "low": 1}, {"low": 1}]
    assert (info["concurrency"], info["queues"]) == (10, ["high", "low"])
    assert info["capsules"] == {
        "default": {"concurrency": 5, "mode": "weighted", "weights": {"high": 2, "low": 1}},
        "slow": {"concurrency": 5, "mode": "weighted", "weights": {"low": 1}},
    }
    assert info["embedded"] is False
    assert resident_kb() > 1000


def test_a_job_whose_bytes_are_no_text_does_not_keep_the_process_from_beating(
    rig: Rig, start: Start
) -> None:
    gate = threading.Event()

    class Waits(Jobs):
        def process(self, job, entered):  # type: ignore[no-untyped-def]
            gate.wait(10)
            return super().process(job._replace(raw=b'{"class":"X","args":[1]}'), entered)

    engine = start(jobs=Waits())
    rig.raw.lpush("queue:default", b"\xff\x00\xfe")
    eventually(engine.courier.capsules.running)
    engine.heartbeat.beat()
    gate.set()

    assert rig.raw.zscore("qik:alive", engine.identity)


def test_a_beat_brings_a_lock_back_that_somebody_deleted(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    jobs.slow(1)
    engine = start()
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    before = rig.lock(1)
    generation = f"qik:unique:{rig.store.look().generation}"
    rig.raw.hdel(generation, *[field for field in rig.raw.hkeys(generation) if field != b"#"])
    assert rig.lock(1) is None

    engine.heartbeat.beat()
    after = rig.lock(1)
    assert after is not None
    assert before is not None
    assert after[:2] + after[18:] == before[:2] + before[18:]


def test_what_redis_says_is_held_and_nobody_knows_of_goes_back_to_its_queue(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    engine = start()
    rig.edge(1)
    eventually(lambda: drained(rig))
    raw = b'{"qik":"-","jid":"stray","queue":"default","class":"X","args":[9]}'
    rig.raw.hset(f"qik:working:{engine.identity}", "1.77", raw)
    engine.heartbeat.beat()

    eventually(lambda: jobs.ends[9])
    eventually(lambda: drained(rig))


def test_the_jobs_of_an_unanswered_exchange_are_no_strays(
    rig: Rig, jobs: Jobs, start: Start, proxy: FaultProxy
) -> None:
    engine = start(proxy.url, timeout=1.0)
    eventually(lambda: rig.raw.scard("qik:idle:default") == 1)
    hung = threading.Event()

    def look() -> None:
        if held(rig):
            hung.set()

    proxy.lose(is_script("exchange"), "hang", times=2, when=look)
    rig.edge(1)
    eventually(lambda: hung.is_set() and held(rig) == 1, 5.0)
    engine.heartbeat.beat()

    assert (held(rig), rig.queued()) == (1, [])
    eventually(lambda: drained(rig))
    assert jobs.runs[1] == 1


def test_a_fenced_process_learns_it_from_its_beat(rig: Rig, jobs: Jobs, start: Start) -> None:
    jobs.slow(1)
    engine = start()
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    before = engine.identity
    rig.raw.hset(f"qik:working:{before}", "#", "fenced")
    engine.heartbeat.beat()

    eventually(lambda: engine.identity != before)
    assert jobs.contexts[1].cancelled
    assert not rig.raw.zscore("qik:alive", before)


def test_a_beat_that_finds_no_working_hash_does_not_end_a_silence(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    jobs.slow(1)
    engine = start()
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    before = engine.identity
    engine.heartbeat._acknowledged = clock() - 2 * L
    rig.raw.delete(f"qik:working:{before}")
    engine.heartbeat.beat()

    eventually(lambda: engine.identity != before, message="what it ran may run elsewhere by now")


def test_buttons_of_sidekiqs_web_arrive_one_a_beat(rig: Rig, start: Start) -> None:
    engine, told = start(), []
    engine.heartbeat.on_beat = lambda beat: told.append(beat.signal)
    rig.raw.lpush(f"{engine.identity}-signals", "TSTP", "rm -rf", "TERM")
    for _ in range(4):
        engine.heartbeat.beat()

    assert told == ["TSTP", "rm -rf", "TERM", ""]


def test_a_beat_passes_on_that_somebody_asks_for_a_roll(rig: Rig, start: Start) -> None:
    engine, asked = start(), []
    engine.heartbeat.on_beat = lambda beat: asked.append(beat.roll)
    engine.heartbeat.beat()
    assert asked == [False]
    rig.store.ask_for_roll()
    engine.heartbeat.beat()

    assert asked == [False, True]


def test_ticks_go_on_by_themselves() -> None:
    shared = Shared.create(1)
    threading.Thread(target=Ticker(shared, 0.05).run, daemon=True).start()
    first = eventually(shared.last_tick)

    eventually(lambda: first < shared.last_tick() <= clock())


def test_ticks_stop_where_the_process_works_no_more() -> None:
    shared, asked = Shared.create(1), [True, False, False, True]
    ticks: list[float] = []

    def works() -> bool:
        ticks.append(shared.last_tick())
        return asked.pop(0)

    with pytest.raises(IndexError):
        Ticker(shared, 0.01, works).run()

    before, first, second, third, last = ticks
    assert before < first == second == third < last


# --- lost hosts ----------------------------------------------------------------


def test_the_jobs_of_a_lost_host_run_again_and_lively_ones_keep_theirs(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    lost = rig.worker("host:9:lost")
    rig.edge(*range(100, 110))
    lost.fetch()
    lost.beat()
    jobs.slow(1)
    engines = [start(beats=True), start(beats=True)]
    rig.edge(1)
    names = [engine.identity for engine in engines]

    at = time.monotonic()
    eventually(lambda: jobs.ends.total() == 10, L + 2 * H + 1)
    assert PATIENCE - H <= time.monotonic() - at <= L + 2 * H
    assert jobs.runs == {**dict.fromkeys(range(100, 110), 1), 1: 1}
    assert [engine.identity for engine in engines] == names
    assert not rig.raw.zscore("qik:alive", "host:9:lost")


def test_a_redis_that_hangs_for_longer_than_a_lease_convicts_nobody(
    rig: Rig, jobs: Jobs, start: Start
) -> None:
    jobs.slow(1)
    engines = [start(beats=True), start(beats=True)]
    names = [engine.identity for engine in engines]
    rig.edge(1)
    eventually(lambda: jobs.runs[1] and rig.raw.zcard("qik:alive") == 2)
    rig.raw.execute_command("CLIENT", "PAUSE", int((L + 1) * 1000), "ALL")

    eventually(rig.raw.ping, L + 5)
    never(lambda: [engine.identity for engine in engines] != names, 2 * H)
    assert jobs.runs[1] == 1


def test_a_deleted_list_of_the_living_convicts_nobody(rig: Rig, jobs: Jobs, start: Start) -> None:
    jobs.slow(1)
    engines = [start(beats=True), start(beats=True)]
    names = [engine.identity for engine in engines]
    rig.edge(1)
    eventually(lambda: jobs.runs[1])
    rig.raw.delete("qik:alive")

    eventually(lambda: rig.raw.zcard("qik:alive") == 2, 2 * H)
    never(lambda: [engine.identity for engine in engines] != names, PATIENCE)
    assert jobs.runs[1] == 1


GARBAGE: dict[str, Callable[..., object]] = {
    "names": lambda raw: raw.zadd("qik:alive", {b"\xff\xfe": 1.0, "": 2.0, "<script>": 4e9}),
    "hash": lambda raw: raw.hset("qik:working:\xff:a:b:c:d", "9.9", "garbage"),
    "type": lambda raw: raw.set("qik:working:host:1:odd", "no hash"),
    "nobody": lambda raw: raw.hset("qik:recovering:", "1.1", "x"),
}


@pytest.mark.parametrize(
    "kinds",
    [tuple(GARBAGE), *(pytest.param((kind,), marks=pytest.mark.slow) for kind in GARBAGE)],
    ids=" ".join,
)
def test_garbage_among_the_processes_hides_no_lost_one(
    rig: Rig, jobs: Jobs, start: Start, kinds: tuple[str, ...]
) -> None:
    for kind in kinds:
        GARBAGE[kind](rig.raw)
    lost = rig.worker("host:9:lost")
    rig.edge(1)
    lost.fetch()
    start(beats=True)

    eventually(lambda: jobs.ends[1], L + 2 * H + 2)


def test_the_process_id_is_of_this_process() -> None:
    alone = Capsule("default", Crew(Jobs().process, [print], print), list, {"default": 1})

    assert process_info("", Capsules([alone]), "")["pid"] == os.getpid()
