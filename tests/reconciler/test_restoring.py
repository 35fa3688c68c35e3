from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis
from sqlalchemy import Engine

from qik_core.errors import StoreError
from qik_core.store.link import Links
from reconciler.audit import read
from reconciler.engines import Engines
from reconciler.export import BadExport
from reconciler.restoring import NearlyFull, Restored, audit_export, export, restore
from reconciler.survey import Selection
from tests.reconciler.flushes import ALL, MAIL, RUBY, Shop, dumps

KEYS = ("queue:work", "schedule", "retry", "dead", "qik:later:work", "qik:suspect:work")


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: SQL is only asked to keep the audit."""
    return sqlite_url


@pytest.fixture
def shop(
    home: Engine, engines: Engines, raw: redis.Redis, default_client: None, redis_url: str
) -> Shop:
    return Shop(home, engines, raw)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


def back(shop: Shop, path: Path) -> Restored:
    return restore(shop.engines, shop.means().redis, path, who="bob", reason="they are wanted")


def everything(shop: Shop) -> dict[str, list[bytes]]:
    return {key: shop.raws(key) for key in KEYS}


def test_an_export_has_every_job_that_is_meant_and_leaves_all_where_they_are(
    shop: Shop, path: Path
) -> None:
    shop.one_of_each()
    shop.raw.lpush("queue:work", RUBY % (1, 1))
    before = dumps(shop.raw)

    whole = export(shop.means(), ALL, path, "alice", "")
    mails = export(shop.means(), MAIL, path.with_name("mails"), "alice", "")

    assert whole.classes == {"Mail": 4, "Work": 9}
    assert mails.classes == {"Mail": 4}
    assert dumps(shop.raw) == before


def test_an_export_of_a_tenant_asks_for_rows(shop: Shop, path: Path) -> None:
    shop.rows(1, note="acme")
    shop.rows(2)
    shop.push(1, 2)

    assert export(shop.means(), Selection(tenant="acme"), path, "alice", "").jobs == 1


def test_an_export_that_fails_leaves_no_file(
    shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.mails("a")
    means = shop.means()

    def fails(*_: object) -> None:
        raise StoreError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(Links, "call", fails)
        with pytest.raises(StoreError):
            export(means, ALL, path, "alice", "")

    assert list(path.parent.glob("jobs*")) == []


def test_jobs_come_back_where_they_were_with_their_locks_and_once(shop: Shop, path: Path) -> None:
    shop.one_of_each()
    before, locks = everything(shop), set(shop.locks())
    shop.flush(export=path, selection=Selection(classes=frozenset({"Mail"})))
    whole = path.with_name("whole")
    export(shop.means(), ALL, whole, "alice", "")
    shop.flush()

    first = [back(shop, path), back(shop, whole)]
    again = [back(shop, path), back(shop, whole)]

    assert [each.back.total() for each in first] == [4, 9]
    assert [(each.back.total(), each.there) for each in again] == [(0, 4), (0, 9)]
    assert {key: sorted(rows) for key, rows in everything(shop).items()} == {
        key: sorted(rows) for key, rows in before.items()
    }
    assert set(shop.locks()) == locks
    assert shop.unsound() == []


def test_the_order_of_a_queue_is_what_it_was(shop: Shop, path: Path) -> None:
    shop.mail.perform_bulk([(str(n),) for n in range(1200)])
    before = shop.raws("queue:work")
    shop.flush(MAIL, export=path)

    back(shop, path)

    assert shop.raws("queue:work") == before


def test_a_job_that_is_there_still_does_not_come_twice_with_or_without_a_lock(
    shop: Shop, path: Path
) -> None:
    shop.one_of_each()
    export(shop.means(), ALL, path, "alice", "")
    before = everything(shop)

    done = back(shop, path)

    assert (done.back.total(), done.there) == (0, 13)
    assert everything(shop) == before


def test_a_job_that_a_process_holds_does_not_come_twice(shop: Shop, path: Path) -> None:
    shop.mails("a")
    export(shop.means(), ALL, path, "alice", "")
    (raw,) = shop.raws("queue:work")
    shop.raw.delete("queue:work", "qik:n:queue:work")
    shop.raw.hset("qik:working:host:1:a", mapping={"#": "1:1", "1.1": raw})

    assert back(shop, path).there == 1


def test_a_job_whose_key_another_one_has_by_now_stays_out_and_says_whose(
    shop: Shop, path: Path
) -> None:
    shop.rows(1)
    shop.push(1)
    export(shop.means(), ALL, path, "alice", "")
    shop.flush()
    jid = shop.work.perform_async(1).jid

    done = back(shop, path)

    assert list(done.blocked.values()) == [jid]
    assert shop.args() == {"[1]": 1}


def test_nothing_of_a_damaged_file_comes_back(shop: Shop, path: Path) -> None:
    shop.mail.perform_bulk([(str(n),) for n in range(600)])
    shop.flush(MAIL, export=path)
    rows = path.read_bytes().splitlines(keepends=True)
    rows[580] = rows[580].replace(b"Mail", b"Evil")
    path.write_bytes(b"".join(rows))

    with pytest.raises(BadExport, match="line 581 is damaged"):
        back(shop, path)

    assert shop.jobs() == 0
    assert [each.action for each in read(shop.home, 0.0)] == ["flushed", "flushed"]


class Cut(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def test_an_import_that_died_half_way_goes_on(
    shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.mail.perform_bulk([(str(n),) for n in range(600)])
    before = shop.raws("queue:work")
    shop.flush(MAIL, export=path)
    run, calls = Links.run, [0]

    def cut(self: Links, name: str, *rest: object) -> object:
        calls[0] += name == "restore"
        if calls[0] == 3:
            raise Cut
        return run(self, name, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Links, "run", cut)
        with pytest.raises(Cut):
            back(shop, path)
    assert shop.jobs() == 500

    assert back(shop, path).back.total() == 100
    assert shop.raws("queue:work") == before


def test_a_nearly_full_redis_takes_nothing_back_and_the_same_import_goes_on_later(
    shop: Shop, path: Path
) -> None:
    shop.mails("a", "b")
    shop.flush(MAIL, export=path)
    shop.raw.config_set("maxmemory", shop.raw.info("memory")["used_memory"] + 50_000)

    with pytest.raises(NearlyFull, match="0 of 2 jobs are back"):
        back(shop, path)

    shop.raw.config_set("maxmemory", 0)
    assert back(shop, path).back.total() == 2


def test_the_audit_says_who_took_and_who_brought(shop: Shop, path: Path) -> None:
    shop.mails("a")
    header = export(shop.means(), ALL, path, "alice", "to keep")
    audit_export(shop.engines, ALL, header, path)
    shop.flush(lose=["Mail"])

    back(shop, path)

    entries = [each for each in read(shop.home, 0.0) if each.action != "flushed"]
    assert [(each.action, each.who, each.reason) for each in entries] == [
        ("exported", "alice", "to keep"),
        ("imported", "bob", "they are wanted"),
        ("imported", "bob", "they are wanted"),
    ]
    assert entries[-1].details["put_back"] == 1
    assert json.dumps(entries[-1].as_json())


def test_held_jobs_are_exported_flushed_and_brought_back_with_their_weight(
    shop: Shop, path: Path
) -> None:
    shop.mails("a", "b", "c")
    for _ in range(3):
        shop.raw.rpoplpush("queue:work", "qik:held:Mail")
    shop.raw.delete("qik:n:queue:work")
    shop.raw.hset("qik:held", "Mail", sum(map(len, shop.raws("qik:held:Mail"))))
    before, weight = shop.raws("qik:held:Mail"), shop.raw.hget("qik:held", "Mail")

    assert shop.plan().lines["Mail", "work"].places == {"held": 3}
    shop.flush(export=path)
    assert not shop.raw.exists("qik:held", "qik:held:Mail")
    back(shop, path)

    assert shop.raws("qik:held:Mail") == before
    assert shop.raw.hget("qik:held", "Mail") == weight
