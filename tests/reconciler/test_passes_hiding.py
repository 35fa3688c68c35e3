"""Rows that try to hide from a pass: each is told within two passes of its commit.

The rows live apart from our own tables: an open transaction of SQLite keeps everybody from writing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from sqlalchemy import Engine, delete, func, insert, select, update

from qik_core.passes import Passes
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome, Report
from tests.reconciler import tables
from tests.reconciler.shop import Base, Item, change, fill, items

PENDING = select(Item.id).where(Item.state == "pending")
SIZE = 7


@pytest.fixture(params=["sqlite", "postgres", pytest.param("mariadb", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database; MariaDB among the slow tests."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def apart(
    database_url: str, sqlite_url: str, tmp_path: Any, seam: Passes
) -> Iterator[tuple[Tools, Engine]]:
    """What a pass works with, and the engine of the rows."""
    on_sqlite = database_url.startswith("sqlite")
    rows = f"sqlite:///{tmp_path / 'rows.db'}" if on_sqlite else database_url
    engines = Engines({"default": database_url, "rows": rows})
    tables.ours(engines.home())
    Base.metadata.create_all(engines.engine("rows"))
    yield Tools.of(seam, engines, "test"), engines.engine("rows")
    engines.dispose()


def hidden(**options: Any) -> Definition:
    return items(PENDING, database="rows", batch_size=SIZE, **options)


def run(definition: Definition, tools: Tools, between: Callable[[], Any] = lambda: None) -> Report:
    """Run a pass; `between` is called before each page and before each push."""

    def standing() -> None:
        between()

    return Pass(definition, tools, 1, standing).run()


def untold(definition: Definition, tools: Tools, engine: Engine) -> set[int]:
    """The pending rows for which there is no job."""
    with engine.connect() as connection:
        rows = [row[0] for row in connection.execute(PENDING)]
    told = tools.seam.told(tools.seam.digests(definition.job, [(each,) for each in rows]))
    return {row for row, is_told in zip(rows, told, strict=True) if not is_told}


def once(do: Callable[[], Any], at: int) -> Callable[[], None]:
    """Return what does it at the `at`-th call."""
    calls = iter(range(1, 1_000))

    def call() -> None:
        if next(calls) == at:
            do()

    return call


def moments(*fast: int, of: int) -> list[Any]:
    """The calls at which something happens: a few, and among the slow tests every one."""
    return [
        each if each in fast else pytest.param(each, marks=pytest.mark.slow)
        for each in range(1, of + 1)
    ]


def test_a_row_whose_transaction_is_open_during_a_pass_is_told_by_the_next(
    apart: tuple[Tools, Engine],
) -> None:
    tools, engine = apart
    definition = hidden()
    fill(engine, range(10, 40))

    with engine.begin() as late:
        late.execute(insert(Item).values(id=1, state="pending", rank=0, version=1))
        late.execute(update(Item).where(Item.id == 20).values(state="done"))
        assert run(definition, tools).outcome is Outcome.COMPLETED

    assert untold(definition, tools, engine) == {1}
    assert run(definition, tools).codes["enqueued"] == 1
    assert untold(definition, tools, engine) == set()


@pytest.mark.parametrize("at", moments(2, 5, of=6))
def test_a_row_that_is_committed_behind_the_position_of_a_pass_is_told_by_the_next(
    apart: tuple[Tools, Engine], at: int
) -> None:
    tools, engine = apart
    definition = hidden()
    fill(engine, range(10, 30))

    run(definition, tools, once(lambda: fill(engine, [1, 2, 25 + at, 40]) if at > 4 else None, at))
    fill(engine, [3])
    run(definition, tools)

    assert untold(definition, tools, engine) == set()


@pytest.mark.parametrize("at", moments(3, of=6))
def test_rows_that_tie_are_told_whatever_joins_them_meanwhile(
    apart: tuple[Tools, Engine], at: int
) -> None:
    tools, engine = apart
    definition = hidden(order_by=Item.rank)
    fill(engine, range(100, 120), rank=5)

    run(definition, tools, once(lambda: fill(engine, range(90, 130, 20), rank=5), at))
    run(definition, tools)

    assert untold(definition, tools, engine) == set()


def test_rows_with_null_in_every_column_that_may_have_it_are_told(
    apart: tuple[Tools, Engine],
) -> None:
    tools, engine = apart
    definition = hidden(
        order_by=func.coalesce(Item.note, ""), version=Item.note, age=Item.since, min_age=30
    )
    fill(engine, range(1, 21), note=None, since=None)
    fill(engine, range(21, 31), note="a", since=datetime(2020, 1, 1))  # noqa: DTZ001

    assert run(definition, tools).codes["enqueued"] == 30
    assert untold(definition, tools, engine) == set()


def test_a_row_that_moves_in_the_order_while_a_pass_is_under_way_is_told(
    apart: tuple[Tools, Engine],
) -> None:
    tools, engine = apart
    definition = hidden(order_by=Item.rank)
    for rank in range(30):
        fill(engine, [rank + 1], rank=rank)

    run(definition, tools, once(lambda: change(engine, 30, 29, rank=0), 4))
    run(definition, tools)

    assert untold(definition, tools, engine) == set()


def test_a_row_that_is_updated_out_and_in_again_is_told(apart: tuple[Tools, Engine]) -> None:
    tools, engine = apart
    definition = hidden()
    fill(engine, range(1, 31))
    change(engine, 3, 17, 29, state="done")

    run(definition, tools, once(lambda: change(engine, 3, 17, 29, state="pending"), 3))
    run(definition, tools, once(lambda: change(engine, 4, 18, state="done"), 2))
    change(engine, 4, 18, state="pending")
    run(definition, tools)

    assert untold(definition, tools, engine) == set()


@pytest.mark.parametrize("at", moments(4, of=8))
def test_rows_that_are_deleted_under_a_pass_take_no_other_row_with_them(
    apart: tuple[Tools, Engine], at: int
) -> None:
    """Among them is the row at which a page ended, from where the next one goes on."""
    tools, engine = apart
    definition = hidden()
    fill(engine, range(1, 31))

    def remove() -> None:
        with engine.begin() as connection:
            connection.execute(delete(Item).where(Item.id.in_([7, 14, 15, 21, 30])))

    report = run(definition, tools, once(remove, at))

    assert report.outcome is Outcome.COMPLETED
    assert untold(definition, tools, engine) == set()


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_between_pages_two_quiet_passes_tell_every_row(
    apart: tuple[Tools, Engine], seed: int
) -> None:
    _stir(*apart, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 102))
def test_whatever_happens_between_pages_two_quiet_passes_tell_every_row_a_hundred_times(
    apart: tuple[Tools, Engine], seed: int
) -> None:
    _stir(*apart, seed)


def _stir(tools: Tools, engine: Engine, seed: int) -> None:
    dice = random.Random(seed)
    definition = hidden(order_by=dice.choice([(Item.rank,), (Item.rank.desc(),), ()]))
    fill(engine, range(1, 80, 2), rank=dice.randrange(3))
    deeds = _deeds(engine, dice)

    for _ in range(3):
        run(definition, tools, lambda: list(islice(deeds, dice.randrange(3))))
    run(definition, tools)

    assert run(definition, tools).outcome is Outcome.COMPLETED
    assert untold(definition, tools, engine) == set()


def _deeds(engine: Engine, dice: random.Random) -> Iterator[None]:
    """Do one thing to a row each time that the next is asked for."""
    new = iter(dice.sample(range(2, 2_000, 2), 900))
    while True:
        some = dice.randrange(1, 80)
        deed = dice.randrange(4)
        if deed == 0:
            fill(engine, [next(new)], rank=dice.randrange(4))
        elif deed == 1:
            change(engine, some, rank=dice.randrange(4))
        elif deed == 2:
            change(engine, some, state=dice.choice(["pending", "done"]))
        else:
            with engine.begin() as connection:
                connection.execute(delete(Item).where(Item.id == some))
        yield


def test_a_row_that_is_too_young_is_told_by_the_second_pass_after_its_age(
    apart: tuple[Tools, Engine],
) -> None:
    tools, engine = apart
    definition = hidden(age=Item.since, min_age=30)
    now = datetime.utcnow()  # noqa: DTZ003
    fill(engine, [1], since=now)
    fill(engine, [2], since=now - timedelta(seconds=31))

    run(definition, tools)
    assert untold(definition, tools, engine) == {1}
    change(engine, 1, since=now - timedelta(seconds=31))
    run(definition, tools)

    assert untold(definition, tools, engine) == set()
