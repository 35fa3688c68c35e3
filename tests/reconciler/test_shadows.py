from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from qik_core.passes import Passes
from reconciler.passes import Pass, Tools
from reconciler.shadows import shadow_of
from tests.reconciler.commands import NOWHERE, Command
from tests.reconciler.shop import Item, change, fill, items
from tests.reconciler.test_cli import APP

PENDING = select(Item.id).where(Item.state == "pending")


def test_the_last_pass_says_what_it_would_have_told_and_what_edges_had(
    home: Engine, tools: Tools, seam: Passes
) -> None:
    fill(home, range(1, 11))
    definition = items(PENDING, shadow=True)
    Pass(definition, tools, 0, lambda: None).run()
    seam.push(definition.job, [(1,), (2,), (3,)])
    Pass(definition, tools, 0, lambda: None).run()

    seen = shadow_of(home, definition)

    assert (seen.passes, seen.unfinished) == (2, 0)
    assert (seen.pending, seen.told, seen.would_tell, seen.most) == (10, 3, 7, 10)
    assert seen.by_edges == pytest.approx(0.3)


def test_passes_that_would_have_told_nothing_are_counted(home: Engine, tools: Tools) -> None:
    fill(home, [1])
    definition = items(PENDING, shadow=True)
    Pass(definition, tools, 0, lambda: None).run()
    change(home, 1, state="done")
    Pass(definition, tools, 0, lambda: None).run()

    seen = shadow_of(home, definition)

    assert (seen.passes, seen.clean, seen.most, seen.by_edges) == (2, 1, 1, None)


def test_a_pass_that_was_cut_short_says_nothing_of_all_rows(home: Engine, tools: Tools) -> None:
    fill(home, range(1, 11))
    definition = items(PENDING, shadow=True)
    Pass(definition, tools, 0, lambda: None).run()
    with home.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE item RENAME COLUMN state TO status")
    Pass(definition, tools, 0, lambda: None).run()

    seen = shadow_of(home, definition)

    assert (seen.passes, seen.unfinished, seen.would_tell) == (1, 1, 10)


def test_only_so_many_passes_are_looked_at(home: Engine, tools: Tools) -> None:
    definition = items(PENDING, shadow=True)
    for _ in range(4):
        Pass(definition, tools, 0, lambda: None).run()

    assert shadow_of(home, definition, last=3).passes == 3


def test_the_command_reports_those_in_shadow_and_none_where_none_is(
    tmp_path: Path, sqlite_url: str, redis_url: str
) -> None:
    (tmp_path / "shop_app.py").write_text(APP)
    (tmp_path / "dark_app.py").write_text(
        APP.replace("timedelta(minutes=1))", "timedelta(minutes=1), shadow=True)")
    )
    command = Command(tmp_path, DATABASE_URL=sqlite_url, REDIS_URL=redis_url, QIK_APP="dark_app")
    command("upgrade")

    new, none = command("shadow"), command("shadow", "--app", "shop_app")
    data, away = command("shadow", "--json"), command("shadow", DATABASE_URL=NOWHERE)

    assert new.stdout == "Items: no pass has read all its rows yet\n"
    assert none.stdout == "no reconciler is in shadow\n"
    assert json.loads(data.stdout)["reconcilers"][0]["passes"] == 0
    assert (new.returncode, none.returncode, away.returncode) == (0, 0, 5)
