from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, update

from reconciler.bookmarks import ALIVE, FRESH, Bookmark, Bookmarks
from reconciler.notes import Kind, Notes
from reconciler.tables import note

MARK = Bookmark(epoch="e1", holder="me", began=1.0, cursor="[7]", scanned=7, enqueued=5, total=9)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: notes are tested on each."""
    return sqlite_url


def test_what_was_kept_is_read(home: Engine) -> None:
    Bookmarks(home).keep([("Items", MARK)])

    found = Bookmarks(home).read()["Items"]
    assert replace(found, age=0.0) == MARK
    assert found.under_way


def test_bookmarks_are_written_once_a_second_unless_it_has_to_be_sure(home: Engine) -> None:
    clock = [0.0]
    marks = Bookmarks(home, lambda: clock[0])
    marks.keep([("Items", MARK)])
    marks.keep([("Items", replace(MARK, scanned=8))])
    assert marks.read()["Items"].scanned == 7

    marks.keep([("Items", replace(MARK, scanned=9))], sure=True)
    assert marks.read()["Items"].scanned == 9
    clock[0] += 1.1
    marks.keep([("Items", replace(MARK, scanned=10))])
    assert marks.read()["Items"].scanned == 10


def test_a_rebuild_that_waits_looks_alive_all_the_same(home: Engine) -> None:
    clock = [0.0]
    marks = Bookmarks(home, lambda: clock[0])
    marks.keep([("Items", MARK)])
    with home.begin() as connection:
        connection.execute(update(note).values(at=note.c.at - ALIVE))
    assert not marks.read()["Items"].under_way

    clock[0] += 3.0
    marks.keep([("Items", MARK)])

    assert marks.read()["Items"].under_way


@pytest.mark.parametrize(
    ("mark", "goes_on"),
    [
        (MARK, True),
        (replace(MARK, ended="stopped"), True),
        (replace(MARK, ended="failed"), True),
        (replace(MARK, ended="completed"), False),
        (replace(MARK, cursor=None), False),
        (replace(MARK, epoch="e0"), False),
        (replace(MARK, age=FRESH), False),
    ],
    ids=["cut off", "stopped", "failed", "completed", "nothing done", "another life", "long ago"],
)
def test_a_rebuild_is_gone_on_with_only_where_nothing_before_can_have_been_lost(
    mark: Bookmark, goes_on: bool
) -> None:
    assert mark.goes_on("e1") is goes_on


def test_a_bookmark_of_another_release_is_none(home: Engine) -> None:
    Notes(home).put(Kind.REBUILD, {"Items": {"page": 7}})

    assert Bookmarks(home).read() == {}
