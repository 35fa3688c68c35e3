from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from qik_core.doctor import Check, Finding, examine
from qik_core.flushing import Place
from qik_core.settings import current
from qik_core.store.flush import FlushStore
from qik_core.store.inspection import inspect
from qik_core.store.link import Link, Links
from reconciler.engines import Engines
from reconciler.export import Journal
from reconciler.flush import Flushed, flush
from reconciler.survey import Selection
from tests.reconciler.flushes import ALL, MAIL, RUBY, WORK, Shop, by
from tests.reconciler.shop import Item, fill
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


# --- files ---------------------------------------------------------------------------------------


def test_what_nothing_brings_back_is_kept_in_a_file_of_its_owner(
    shop: Shop, tmp_path: Path
) -> None:
    shop.one_of_each()
    mails = {
        raw.decode()
        for key in ("queue:work", "schedule", "dead")
        for raw in shop.raws(key)
        if b"Mail" in raw
    }
    path = tmp_path / "kept.jsonl"

    done = shop.flush(export=path)

    head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["raw"] for line in lines} == mails
    assert head["classes"] == {"Mail": 4}
    assert done.exported is not None
    assert done.exported.jobs == head["jobs"] == 4
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.glob("kept*")] == ["kept.jsonl"]
    assert shop.jobs() == 0


def test_a_job_that_moves_between_its_judgement_and_its_step_is_not_in_the_file(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for to in ("a", "b"):
        shop.mail.set(queue="mails").perform_in(60, to)
    made, means = shop.plan(MAIL), shop.means()
    drop = FlushStore.drop

    def late(self: FlushStore, *rest: Any) -> list[bool]:
        (raw, *_) = shop.raws("schedule")
        shop.raw.zrem("schedule", raw)
        shop.raw.lpush("queue:mails", raw)
        return drop(self, *rest)

    monkeypatch.setattr(FlushStore, "drop", late)
    done = flush(made, means, by(export=tmp_path / "kept"))

    assert done.jobs == 1
    assert shop.args() == {'["a"]': 1}
    kept = (tmp_path / "kept").read_text()
    assert kept.count('"raw"') == 1
    assert '[\\"b\\"]' in kept


def test_a_class_that_may_be_lost_is_not_kept(shop: Shop, tmp_path: Path) -> None:
    shop.mails("a", "b")

    done = shop.flush(export=tmp_path / "kept", lose=["Mail"])

    assert done.jobs == 2
    assert done.exported is not None
    assert done.exported.jobs == 0


# --- X8: cut short, twice, two at once -----------------------------------------------------------


class Cut(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def cutting(monkeypatch: pytest.MonkeyPatch, at: int) -> Callable[[], int]:
    """Let the process end behind its `at`-th call of Redis; returns what says how many there were."""
    calls = [0]
    run, call = Links.run, Links.call

    def counted(real: Any) -> Any:
        def wrapped(self: Links, *args: Any) -> Any:
            if calls[0] >= at:
                raise Cut
            calls[0] += 1
            return real(self, *args)

        return wrapped

    monkeypatch.setattr(Links, "run", counted(run))
    monkeypatch.setattr(Links, "call", counted(call))
    return lambda: calls[0]


def check(shop: Shop, path: Path, *, whole: bool) -> None:
    """See that all that was meant is gone, that mails are in the file, and that all else is as it was."""
    kept = [json.loads(line)["raw"] for line in path.read_text().splitlines()[1:]]
    assert sorted(each.split('"args":["')[1][0] for each in kept) == ["a", "b", "c", "d"], path
    left = shop.args()
    assert left.pop("[1]") == (1 if whole else 2), "Ruby's"
    assert sum(left.values()) == (0 if whole else 8), path
    shop.raw.lrem("queue:work", 1, RUBY % (1, 1))
    assert shop.unsound() == [], path


@pytest.mark.parametrize("whole", [True, False], ids=["all", "class"])
def test_after_a_death_behind_any_call_the_same_flush_ends_as_if_nothing_had_been(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    selection = ALL if whole else MAIL
    monkeypatch.setattr("reconciler.flush._LOOK", 0.0)
    at, ended = 0, False
    while not ended:
        shop.raw.flushdb()
        path = tmp_path / f"kept {at}"
        with shop.home.begin() as connection:
            connection.execute(Item.__table__.delete())  # type: ignore[attr-defined]
        shop.one_of_each()
        shop.raw.lpush("queue:work", RUBY % (1, 1))
        made, means = shop.plan(selection), shop.means()
        with monkeypatch.context() as patched:
            cutting(patched, at)
            try:
                flush(made, means, by(export=path))
                ended = True
            except Cut:
                pass
        if not ended and not path.exists():
            shop.raw.delete("qik:flusher")  # as when the process of the first has died
            shop.flush(selection, export=path)
        check(shop, path, whole=whole)
        at += 1
    assert at > 20


@pytest.mark.parametrize("place", ["queue:work", "schedule"])
@pytest.mark.parametrize("removed", [True, False], ids=["removed", "not removed"])
def test_a_job_that_ran_since_a_flush_died_before_removing_it_is_not_in_its_file(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, removed: bool
) -> None:
    for to in ("a", "b"):
        shop.mail.perform_in(60, to) if place == "schedule" else shop.mail.perform_async(to)
    path, name = tmp_path / "kept", "drop" if place == "schedule" else "sort"
    real = getattr(FlushStore, name)
    made, means = shop.plan(MAIL), shop.means()

    def die(self: FlushStore, *rest: Any) -> None:
        if removed:
            real(self, *rest)
        raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(FlushStore, name, die)
        with pytest.raises(Cut):
            flush(made, means, by(export=path))
    shop.raw.delete("qik:flusher")
    assert shop.jobs() == (0 if removed else 2)
    shop.flush(Selection(put_back=True))
    for raw in shop.raws(place)[:1]:  # one of them runs
        shop.raw.zrem(place, raw) if place == "schedule" else shop.raw.lrem(place, 1, raw)
    shop.mails("c")

    done = shop.flush(MAIL, export=path)

    kept = [json.loads(line)["raw"] for line in path.read_text().splitlines()[1:]]
    left = sorted(each.split('"args":["')[1][0] for each in kept)
    assert len(left) == (3 if removed else 2)
    assert "c" in left
    assert done.left_out == (0 if removed else 2)
    assert shop.jobs() == 0


def test_what_nobody_can_know_any_more_stays_in_the_file(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.mails("a", "b")
    path, made, means = tmp_path / "kept", shop.plan(MAIL), shop.means()
    with monkeypatch.context() as patched:
        patched.setattr(FlushStore, "sort", lambda *_: (_ for _ in ()).throw(Cut()))
        with pytest.raises(Cut):
            flush(made, means, by(export=path))
    shop.raw.flushdb()  # Redis is lost, and with it what it knew

    done = shop.flush(MAIL, export=path)

    assert (done.left_out, done.exported and done.exported.jobs) == (0, 2)


def test_what_nobody_can_know_any_more_stays_in_the_file_also_when_the_next_flush_dies(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept"

    def die() -> None:
        made, means = shop.plan(MAIL), shop.means()
        with monkeypatch.context() as patched:
            patched.setattr(FlushStore, "sort", lambda *_: (_ for _ in ()).throw(Cut()))
            with pytest.raises(Cut):
                flush(made, means, by(export=path))

    shop.mails("a", "b")
    die()
    shop.raw.flushdb()  # Redis is lost, and with it what it knew
    shop.mails("c")
    die()

    done = shop.flush(MAIL, export=path)

    assert (done.left_out, done.exported and done.exported.jobs) == (1, 3)


def test_what_was_removed_is_forgotten_in_redis_only_when_the_file_says_it(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.mails("a", "b")
    path, made, means = tmp_path / "kept", shop.plan(MAIL), shop.means()

    def die(_: Journal, left: list[int], __: list[int]) -> None:
        if left:
            raise Cut

    for _ in range(2):  # behind the step, and then on the way to the disk
        with monkeypatch.context() as patched:
            patched.setattr(Journal, "settle", die)
            with pytest.raises(Cut):
                flush(made, means, by(export=path))
    assert shop.jobs() == 0

    done = shop.flush(MAIL, export=path)

    assert (done.left_out, done.exported and done.exported.jobs) == (0, 2)


def test_what_a_flush_that_died_has_put_aside_can_all_go_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.one_of_each()
    before, locks = shop.args(), shop.locks()
    made, means = shop.plan(Selection(places=frozenset({Place.QUEUED}))), shop.means()
    with monkeypatch.context() as patched:
        patched.setattr(means.redis._redis, "head", lambda _: (_ for _ in ()).throw(Cut()))
        with pytest.raises(Cut):
            flush(made, means, by(lose=["Mail"]))
    assert list(shop.raw.scan_iter("qik:trash:*"))
    (warned,) = [each for each in found_by_doctor(shop) if each.check is Check.ASIDE]
    assert warned.what.startswith("7 jobs are aside")

    back = Selection(put_back=True)
    assert shop.plan(back).aside == 7
    done = flush(shop.plan(back), shop.means(), by())

    assert done.jobs == 0
    assert shop.args() == before
    assert shop.locks() == locks
    assert shop.unsound() == []
    assert not [each for each in found_by_doctor(shop) if each.check is Check.ASIDE]


def found_by_doctor(shop: Shop) -> list[Finding]:
    settings = current()
    link = Link(settings.redis)
    try:
        return examine(inspect(link), settings)
    finally:
        link.close()


def test_a_flush_done_twice_finds_nothing_to_do(shop: Shop) -> None:
    shop.one_of_each()

    assert shop.flush(lose=["Mail"]).jobs == 13
    assert shop.flush().jobs == 0
    assert shop.unsound() == []


def test_two_who_flush_at_once_take_turns_and_every_job_goes_once(shop: Shop) -> None:
    fill(shop.home, range(1, 1001))
    shop.work.perform_bulk([(n,) for n in range(1, 1001)])
    shop.mails("a")
    first, second = shop.plan(WORK), shop.plan(WORK)
    done: list[Flushed] = []
    waited: list[str] = []
    gate = threading.Event()

    def slow(_: str, count: int) -> None:
        gate.wait(60) if count == 250 else None

    threads = [
        threading.Thread(
            target=lambda: done.append(flush(first, shop.means("alice"), by(), say=slow))
        ),
        threading.Thread(
            target=lambda: done.append(flush(second, shop.means("bob"), by(), waits=waited.append))
        ),
    ]
    threads[0].start()
    eventually(lambda: shop.raw.exists("qik:flusher"), 60)
    threads[1].start()
    eventually(lambda: waited, 60)
    gate.set()
    for thread in threads:
        thread.join(60)

    assert waited[0] == "alice flushes now: this waits until that has ended"
    assert sorted(each.jobs for each in done) == [0, 1000]
    assert shop.args() == {'["a"]': 1}
    assert shop.unsound() == []
