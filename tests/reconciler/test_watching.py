from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from qik_core.passes import Passes, Telling
from reconciler import Backpressure
from reconciler.bookmarks import Bookmark, Bookmarks
from reconciler.engines import Engines
from reconciler.passes import Pass, Tools
from reconciler.tables import passes
from reconciler.watching import Untold, View, Watching, look, ordered
from tests.reconciler.shop import Item, fill, items

PENDING = select(Item.id).where(Item.state == "pending")


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: the ledger is tested on each."""
    return sqlite_url


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(tools: Tools, definition: Any) -> None:
    Pass(definition, tools, 0, lambda: None).run()


def test_nothing_is_untold_after_a_pass_that_completed_and_all_after_a_loss(
    home: Engine, tools: Tools, seam: Passes, raw: Any
) -> None:
    fill(home, range(1, 31))
    run(tools, items(PENDING))
    loss = seam.look().loss

    assert look(home, {}, loss) == [Untold(unit="Items", pending=30, untold=0, doing="told")]
    raw.flushall()
    lost = look(home, {}, seam.look().loss)
    assert lost == [Untold(unit="Items", pending=30, untold=30, doing="waits for its pass")]
    run(tools, items(PENDING))
    assert look(home, {}, seam.look().loss)[0].untold == 0


def test_while_nobody_knows_the_epoch_the_last_pass_counts(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 4))
    run(tools, items(PENDING))
    raw.flushall()

    assert look(home, {}, None)[0].untold == 0


def test_rows_for_which_there_was_no_room_are_untold(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, range(1, 31))
    run(tools, items(PENDING))
    raw.flushall()
    run(tools, items(PENDING, backpressure=Backpressure(high=12)))

    (one,) = look(home, {}, tools.watch.look())
    assert (one.pending, one.untold) == (30, 18)
    assert one.doing.startswith("gated: ")


def test_a_reconciler_that_never_was_through_is_not_known(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 31))
    run(tools, items(PENDING, backpressure=Backpressure(high=12)))

    (one,) = look(home, {}, tools.watch.look())
    assert (one.pending, one.untold) == (None, None)
    assert View(units=(one,), rate=0.0, eta=None).unknown == ("Items",)


def test_a_pass_under_way_says_how_far_it_is(
    home: Engine, engines: Engines, tools: Tools, seam: Passes, raw: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("reconciler.passes._SAID", 0.0)
    fill(home, range(1, 101))
    definition = items(PENDING, batch_size=10)
    run(tools, definition)
    raw.flushall()
    half, go = threading.Event(), threading.Event()

    class Halting(Passes):
        def start(self, *args: Any, **options: Any) -> Telling:
            if raw.llen("queue:work") == 60:
                half.set()
                assert go.wait(60)
            return super().start(*args, **options)

    made = Tools.of(Halting(seam._store), engines, "other")
    thread = threading.Thread(target=run, args=(made, definition))
    thread.start()
    assert half.wait(60)
    try:
        (one,) = look(home, {}, seam.look().loss)
        assert one == Untold(unit="Items", pending=100, untold=40, doing="pass under way")
    finally:
        go.set()
        thread.join()
    assert look(home, {}, seam.look().loss)[0].untold == 0


def test_a_pass_that_meets_told_rows_only_does_not_look_like_a_loss(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 31))
    run(tools, items(PENDING))
    run(tools, items(PENDING))
    with home.begin() as connection:  # as if it were half-way
        newest = select(passes.c.id).order_by(passes.c.id.desc()).limit(1).scalar_subquery()
        half = {"outcome": None, "scanned": 15, "codes": '{"told": 15}'}
        connection.execute(update(passes).where(passes.c.id == newest).values(half))

    assert look(home, {}, tools.watch.look())[0].untold == 0


def test_a_rebuild_under_way_says_what_is_left(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, range(1, 31))
    run(tools, items(PENDING))
    mark = Bookmark(epoch="e", holder="me", began=0.0, cursor="[9]", scanned=9, total=30)
    Bookmarks(home).keep([("Items", mark)])

    (one,) = Watching(home).look(None).units
    assert (one.untold, one.doing) == (21, "is rebuilt")


def test_it_says_how_fast_it_heals_and_when_it_is_whole(
    home: Engine, tools: Tools, raw: Any
) -> None:
    clock = Clock()
    watching, marks = Watching(home, clock), Bookmarks(home)
    fill(home, [1])
    run(tools, items(PENDING))
    views = []
    for scanned in (0, 100, 200):
        mark = Bookmark(epoch="e", holder="me", began=0.0, cursor="[9]", scanned=scanned, total=500)
        marks.keep([("Items", mark)], sure=True)
        views.append(watching.look(None))
        clock.now += 1.0

    assert [each.untold for each in views] == [500, 400, 300]
    assert views[-1].rate == pytest.approx(100.0)
    assert views[-1].eta == pytest.approx(3.0)
    assert views[-1].as_json()["units"][0]["untold"] == 300


def test_what_is_untold_most_comes_first() -> None:
    units = [
        Untold(unit=name, pending=9, untold=count, doing="")
        for name, count in (("a", 1), ("b", None), ("c", 5))
    ]

    assert [each.unit for each in ordered(units)] == ["c", "a", "b"]
