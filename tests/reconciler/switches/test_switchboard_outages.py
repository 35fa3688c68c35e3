from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from qik_core.errors import StoreUnavailable
from qik_core.passes import Passes
from qik_core.store import Store
from qik_core.switches import Rule, Snapshot
from reconciler.errors import SqlUnavailable
from reconciler.switches.acts import Order, Switcher
from reconciler.switches.file import File
from reconciler.switches.remembered import Remembered
from reconciler.switches.switchboard import Switchboard
from reconciler.switches.table import Shelf, Table
from tests.reconciler.switches.boards import BY, WORK, Process, Says, audited, published
from tests.waiting import eventually


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """The statements are tested on each database where they are."""
    return sqlite_url


class Away(Table):
    """A home database that does not answer."""

    def read(self) -> Shelf:
        raise SqlUnavailable("away")


def without_sql(one: Process, home: Engine) -> None:
    one.board._table = Away(home)
    one.board._read = one.board._lead_until = float("-inf")  # for so long that nobody leads


def test_while_sql_does_not_answer_news_are_published_and_what_people_said_stays(
    process: Callable[..., Process], home: Engine, raw: Any
) -> None:
    one, two = process("one", Says({})), process("two", Says({}))
    Switcher(home, None).disable(Order(flag="disable_mail", by=BY))
    for each in (one, two):
        each.settled()
        without_sql(each, home)
    version = published(raw).version

    for each in (one, two):
        each.board.publish()
    assert published(raw).version == version

    two.hears(WORK)
    two.board.publish()
    assert sorted(published(raw).rules) == ["disable_mail", "disable_work"]

    one.look()
    assert sorted(published(raw).rules) == ["disable_mail", "disable_work"]

    raw.flushall()
    one.board.publish()
    assert sorted(published(raw).rules) == ["disable_mail", "disable_work"]


def test_a_process_that_does_not_lead_corrects_nothing_that_is_published(
    process: Callable[..., Process], home: Engine, raw: Any
) -> None:
    process("one", Says(WORK))
    two = process("two", Says(WORK))
    version = published(raw).version

    two.hears({})
    two.settled()

    assert published(raw).version == version

    without_sql(two, home)
    two.look()
    assert published(raw).version == version  # the process that leads has heard the same


def test_news_that_could_not_be_published_are_published_later(
    process: Callable[..., Process], home: Engine, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = process("one", Says({}))
    without_sql(one, home)
    one.hears(WORK)

    def refuse(_: Snapshot) -> int:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(one.board._seam, "publish", refuse)
        with pytest.raises(StoreUnavailable):
            one.board.publish()
    assert "disable_work" not in published(raw).rules

    one.board.publish()
    assert "disable_work" in published(raw).rules


def test_what_people_say_is_not_taken_from_an_old_memory_while_redis_knows_better(
    home: Engine, redis_url: str, seam: Passes, raw: Any
) -> None:
    hand = Rule(source="sql", who="ana")
    seam.publish(Snapshot(int(time.time() * 1000), {"disable_mail": (hand,)}))
    old = Remembered()
    old.known = {"sql": {"disable_old": (hand,)}, "file": {"disable_old": (hand,)}}
    says, store = Says({}), Store(redis_url)
    board = Switchboard(home, Passes(store), [says], "one", remembered=old)
    board._table = Away(home)
    board.start()
    try:
        says.now = WORK
        says.changed()

        eventually(lambda: "disable_work" in published(raw).rules)
        assert sorted(published(raw).rules) == ["disable_mail", "disable_work"]
    finally:
        board.stop(5)
        store.close()


def test_what_was_said_while_sql_did_not_answer_is_written_down_by_who_leads(
    process: Callable[..., Process], home: Engine, raw: Any, seam: Passes, tmp_path: Path
) -> None:
    one = process()
    gone = create_engine(f"sqlite:///{tmp_path}/gone/x.db")
    Switcher(gone, seam).disable(Order(flag="disable_work", by=BY))
    assert published(raw).rules["disable_work"][0].source == "redis"

    one.settled()
    one.settled()

    assert published(raw).rules["disable_work"][0].source == "sql"
    assert Table(home).read().of("sql")["disable_work"][0].who == "ana@host"
    assert audited(home) == [("disabled", "disable_work", "ana@host")]


def test_a_redis_that_does_not_answer_holds_up_nothing_in_sql(
    process: Callable[..., Process], home: Engine, redis_server: Any
) -> None:
    one = process("one", Says({}))
    redis_server.stop()
    try:
        one.hears(WORK)
        one.board.keep()
    finally:
        redis_server.start()

    assert audited(home) == [("disabled", "disable_work", "unleash")]


def test_sql_that_can_be_read_and_not_written_to_loses_no_word_of_people(
    process: Callable[..., Process], home: Engine, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = process("one", Says({}))
    Switcher(home, None).disable(Order(flag="disable_mail", by=BY))
    one.hears(WORK)

    def refuse(_: object) -> Shelf:
        raise SqlUnavailable("no room left")

    monkeypatch.setattr(one.board._table, "change", refuse)
    with pytest.raises(SqlUnavailable):
        one.board.keep()
    one.look()

    assert sorted(published(raw).rules) == ["disable_mail", "disable_work"]


def test_what_a_provider_tells_of_itself_is_kept_whatever_is_in_it(
    process: Callable[..., Process], home: Engine
) -> None:
    says = Says({})
    says.problem = "disable_\0\ud800 stops nothing" + "é" * 100_000
    one = process("one", says)

    assert Table(home).read().health["unleash"].problem.startswith("disable_?? stops nothing")
    one.board._noted = float("-inf")
    assert not one.board._wants(Table(home).read())  # it is the same still


def test_a_redis_that_comes_back_from_an_old_dump_takes_nothing_back_that_sql_says(
    process: Callable[..., Process], home: Engine, raw: Any, seam: Passes, tmp_path: Path
) -> None:
    gone = create_engine(f"sqlite:///{tmp_path}/gone/x.db")
    Switcher(gone, seam).disable(Order(flag="disable_work", by=BY))
    dump = raw.get("qik:switches")
    one = process()
    one.settled()
    assert audited(home) == [("disabled", "disable_work", "ana@host")]
    Switcher(home, seam).enable("disable_work", BY)
    one.board.release()
    raw.flushall()
    raw.set("qik:switches", dump)

    process("two").settled()

    assert Table(home).read().of("sql") == {}
    assert published(raw).rules == {}
    assert [each[0] for each in audited(home)] == ["disabled", "enabled"]


class Stuck(File):
    """A file on a disk that does not answer."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.name = path.stem
        self.asked, self.answers = threading.Event(), threading.Event()

    def look(self) -> None:
        self.asked.set()
        self.answers.wait(60)


def test_it_stops_in_time_whatever_its_providers_wait_for(
    home: Engine, seam: Passes, tmp_path: Path
) -> None:
    stuck = [Stuck(tmp_path / f"{number}.toml") for number in range(4)]
    board = Switchboard(home, seam, stuck, "one")
    board.start()
    try:
        assert all(each.asked.wait(20) for each in stuck)
        began = time.monotonic()
        board.stop(1.0)
        assert time.monotonic() - began < 2.5
    finally:
        for each in stuck:
            each.answers.set()
            each.close()
