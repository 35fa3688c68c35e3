from __future__ import annotations

import threading

import pytest
from sqlalchemy import Connection, Engine

from reconciler.engines import Engines
from reconciler.errors import NotMigrated
from reconciler.notes import Kind, Notes, Value, forget


def test_what_was_put_is_read_with_its_age(home: Engine) -> None:
    notes = Notes(home)
    notes.put(Kind.REBUILD, {"Items": {"scanned": 1}, "Items/eu": {"scanned": 2}})
    notes.put(Kind.REBUILD, {"Items": {"scanned": 3}})
    notes.put(Kind.REDIS, {"Items": {"other": True}})

    found = notes.read(Kind.REBUILD)
    assert {name: dict(each.value) for name, each in found.items()} == {
        "Items": {"scanned": 3},
        "Items/eu": {"scanned": 2},
    }
    assert all(0 <= each.age < 60 for each in found.values())


def test_putting_nothing_and_forgetting_nothing_ask_nothing(home: Engine) -> None:
    notes = Notes(home)
    notes.put(Kind.REDIS, {})
    notes.forget(Kind.REDIS, [])

    assert notes.read(Kind.REDIS) == {}


def test_a_note_that_is_forgotten_is_gone_and_no_other(home: Engine) -> None:
    notes = Notes(home)
    notes.put(Kind.REDIS, {"a": {}, "b": {}})
    notes.forget(Kind.REDIS, ["a"])

    assert set(notes.read(Kind.REDIS)) == {"b"}


def test_a_change_sees_what_is_there_and_may_leave_it(home: Engine) -> None:
    notes = Notes(home)
    seen: list[tuple[dict[str, object], float]] = []

    def once(value: Value, age: float) -> Value | None:
        seen.append((dict(value), age))
        return None if value else {"told": True}

    assert notes.change(Kind.REDIS, "told", once) == {"told": True}
    assert notes.change(Kind.REDIS, "told", once) is None
    assert [value for value, _ in seen] == [{}, {"told": True}]
    assert seen[0][1] > 1e9
    assert 0 <= seen[1][1] < 60


def test_of_many_that_change_a_note_at_once_one_is_first(home: Engine) -> None:
    Notes(home).put(Kind.REDIS, {"count": {"n": 0}})
    ready = threading.Barrier(4)

    def add() -> None:
        ready.wait()
        for _ in range(5):
            Notes(home).change(Kind.REDIS, "count", lambda value, _: {"n": value["n"] + 1})

    threads = [threading.Thread(target=add) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert Notes(home).read(Kind.REDIS)["count"].value == {"n": 20}


def test_a_database_without_our_tables_is_said_to_be_so(engines: Engines) -> None:
    with pytest.raises(NotMigrated, match="reconciler upgrade"):
        Notes(engines.home()).read(Kind.REDIS)


def test_what_is_written_beside_a_change_is_there_only_with_it(home: Engine) -> None:
    notes = Notes(home)

    def fail(connection: Connection, new: Value) -> None:
        forget(connection, Kind.REDIS, ["other"])
        raise ValueError(new)

    notes.put(Kind.REDIS, {"other": {}})
    with pytest.raises(ValueError, match="told"):
        notes.change(Kind.REDIS, "it", lambda *_: {"told": True}, also=fail)
    assert {name: dict(each.value) for name, each in notes.read(Kind.REDIS).items()} == {
        "other": {}
    }

    notes.change(
        Kind.REDIS,
        "it",
        lambda *_: {"told": True},
        also=lambda connection, _: forget(connection, Kind.REDIS, ["other"]),
    )
    notes.change(Kind.REDIS, "it", lambda *_: None, also=fail)
    assert {name: dict(each.value) for name, each in notes.read(Kind.REDIS).items()} == {
        "it": {"told": True}
    }
