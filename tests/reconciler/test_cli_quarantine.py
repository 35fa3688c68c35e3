from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, insert, select

from qik_core import application, settings
from qik_core.passes import EndedKind, Passes
from qik_core.settings import Settings
from reconciler.cli import main
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.ledger import Ledger
from reconciler.quarantine import RowStates
from reconciler.registry import find
from reconciler.tables import audit, row_state
from tests.reconciler.commands import NOWHERE, Command, command, database_url
from tests.reconciler.ends import end
from tests.reconciler.shop import Member, fill

__all__ = ["command", "database_url"]

APP = """
from datetime import timedelta
from sqlalchemy import select
from qik_core import Job
from reconciler import Quarantine, Reconciler, derive
from tests.reconciler.shop import Item, Member

class Work(Job, queue="work", unique_for=3600):
    def perform(self, item_id: int) -> None: ...

class Join(Job, queue="join", unique_for=3600):
    def perform(self, org_id: int, user_id: int) -> None: ...

class Items(Reconciler, every=timedelta(minutes=1), quarantine=Quarantine(after=2)):
    pending = derive(Work, select(Item.id).where(Item.state == "pending"), version=Item.version)

class Members(Reconciler, every=timedelta(minutes=1), quarantine=Quarantine(after=1)):
    pending = derive(Join, select(Member.org_id, Member.user_id))
"""


@pytest.fixture
def shop(command: Command, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Iterator[None]:
    """The same application in this process."""
    monkeypatch.syspath_prepend(str(command.folder))
    settings.use(Settings(redis=redis_url))
    application.load("shop_app")
    yield
    sys.modules.pop("shop_app", None)
    settings.use(None)


class Here:
    """Runs `reconciler quarantine` in this process."""

    def __call__(self, *words: str, typed: str = "") -> Result:
        return CliRunner().invoke(main, ["quarantine", *words], input=typed)


@pytest.fixture
def here(command: Command, shop: None, monkeypatch: pytest.MonkeyPatch, database_url: str) -> Here:
    monkeypatch.chdir(command.folder)
    for name, value in command.environment.items():
        monkeypatch.setenv(name, value)
    return Here()


@pytest.fixture
def states(home: Engine, seam: Passes, shop: None) -> RowStates:
    return RowStates(home, seam)


def ended(home: Engine) -> None:
    """Let each reconciler have run once."""
    ledger = Ledger(home, "me")
    for name in ("Items", "Members"):
        ledger.begin(find(name), 1)


def died(raw: Any, states: RowStates, definition: Definition, *keys: tuple[int, ...]) -> None:
    for key in keys:
        for _ in range(definition.quarantine.after):
            end(raw, definition, key, error="ValueError: no such account")
    states.drain()


def audited(home: Engine) -> list[Any]:
    with home.connect() as connection:
        return list(connection.execute(select(audit).order_by(audit.c.id)))


def test_the_list_shows_quarantined_rows_without_any_application(
    command: Command, home: Engine, states: RowStates, raw: Any
) -> None:
    died(raw, states, find("Items"), (7,), (8,))
    died(raw, states, find("Members"), (1, 2))
    end(raw, find("Items"), (9,), EndedKind.CRASHED)
    states.drain()
    ended(home)

    text = command("quarantine", "list", QIK_APP="nowhere.at_all")
    one = command("quarantine", "list", "--reconciler", "Members", "--json", QIK_APP="nowhere")
    every = command("quarantine", "list", "--waiting", "--json", "--limit", "3")

    assert text.returncode == 0, text.stderr
    assert "org_id=1 user_id=2" in text.stdout
    assert "ValueError: no such account" in text.stdout
    assert "crashed" not in text.stdout
    (row,) = json.loads(one.stdout)["rows"]
    assert (row["key"], row["args"], row["reason"], row["failures"]) == (
        "org_id=1 user_id=2",
        [1, 2],
        "died",
        1,
    )
    shown = json.loads(every.stdout)
    assert (len(shown["rows"]), shown["more"]) == (3, True)
    assert "waiting" in {each["state"] for each in shown["rows"]}


def test_a_job_that_can_never_succeed_is_listed_with_what_it_said(
    command: Command, raw: Any, states: RowStates
) -> None:
    error = "qik_core.outcomes.Terminal: closed for ever"
    end(raw, find("Items"), (1,), EndedKind.TERMINAL, error=error)
    states.drain()

    said = command("quarantine", "list").stdout

    assert " Terminal: closed for ever" in said
    assert "outcomes" not in said


def test_an_empty_list_says_so_and_an_unknown_reconciler_is_a_mistake_of_usage(
    command: Command, home: Engine, shop: None
) -> None:
    ended(home)

    none, unknown = (
        command("quarantine", "list"),
        command("quarantine", "list", "--reconciler", "Itmes"),
    )

    assert (none.returncode, none.stdout) == (0, "no row is held back\n")
    assert unknown.returncode == 2
    assert "did you mean 'Items'" in unknown.stderr


def test_a_row_is_released_by_its_key_and_the_audit_has_it(
    here: Here, home: Engine, states: RowStates, raw: Any
) -> None:
    died(raw, states, find("Items"), (7,), (8,))
    died(raw, states, find("Members"), (1, 2))

    one = here("release", "Items", "7", "--reason", "the account is back")
    two = here("release", "Members", "user_id=2", "org_id=1", "--json")
    none = here("release", "Items", "7")

    assert one.exit_code == 0, one.stderr
    assert "Items 7 is released" in one.stdout
    assert json.loads(two.stdout)["row"]["key"] == "org_id=1 user_id=2"
    assert none.exit_code == 1
    assert "Items 7: nothing holds this row back" in none.stderr
    assert [each.key for each in states.memory.page()] == ["8"]
    first, second = audited(home)
    assert (first.action, first.subject, first.reason) == (
        "quarantine.release",
        "Items 7",
        "the account is back",
    )
    assert "@" in first.who
    assert json.loads(first.details)["keys"] == ["7"]
    assert second.subject == "Members org_id=1 user_id=2"


def test_all_rows_are_released_only_when_somebody_says_so(
    here: Here, home: Engine, states: RowStates, raw: Any
) -> None:
    died(raw, states, find("Items"), *((each,) for each in range(1, 701)))
    died(raw, states, find("Members"), (1, 2))
    end(raw, find("Items"), (9_999,))
    states.drain()

    refused = here("release", "Items", "--all")
    done = here("release", "Items", "--all", "--yes", "--reason", "fixed")

    assert refused.exit_code == 3
    assert "700 rows are quarantined" in refused.stderr
    assert "--yes" in refused.stderr
    assert done.exit_code == 0, done.stderr
    assert "700 rows of Items are released" in done.stdout
    assert sorted(each.key for each in states.memory.page()) == ["9999", "org_id=1 user_id=2"]
    assert sum(json.loads(each.details)["rows"] for each in audited(home)) == 700


def test_a_person_at_a_terminal_is_asked(
    here: Here, home: Engine, states: RowStates, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.cli.people._is_somebody_there", lambda: True)
    died(raw, states, find("Items"), (7,))

    assert here("release", "Items", "--all", typed="n\n").exit_code == 1
    assert len(states.memory.page()) == 1
    assert here("release", "Items", "--all", typed="y\n").exit_code == 0
    assert states.memory.page() == []


def test_an_operator_quarantines_a_row_and_only_an_operator_frees_it(
    here: Here, home: Engine, states: RowStates, raw: Any, seam: Passes
) -> None:
    fill(home, [7])
    definition = find("Items")
    key = definition.job.definition.digests([(7,)])

    done = here("add", "Items", "7", "--reason", "sends wrong mail")
    held = RowStates(home, seam, "v9").filter(definition, key, ["newtag"])
    listed = states.memory.page()
    freed = here("release", "Items", "7")

    assert done.exit_code == 0, done.stderr
    assert held[0] is not None
    assert (held[0].code, held[0].reason) == ("quarantined", "operator")
    assert [(each.key, each.args, each.error) for each in listed] == [
        ("7", "[7]", "sends wrong mail")
    ]
    assert freed.exit_code == 0
    assert states.memory.page() == []
    assert [each.action for each in audited(home)] == ["quarantine.add", "quarantine.release"]


def test_a_row_that_waits_is_quarantined_with_what_is_remembered_of_it(
    here: Here, home: Engine, states: RowStates, raw: Any
) -> None:
    with home.begin() as connection:
        row = {"org_id": 1, "user_id": 2, "email": "x", "token": UUID(int=7)}
        connection.execute(insert(Member), [row])
    end(raw, find("Members"), (1, 2), EndedKind.CRASHED)
    states.drain()

    done = here("add", "Members", "org_id=1", "user_id=2", "--reason", "x")

    assert done.exit_code == 0, done.stderr
    (state,) = states.memory.page()
    assert (state.reason, state.crashes, state.key) == ("operator", 1, "org_id=1 user_id=2")


def test_a_select_that_fails_is_said_without_a_traceback(here: Here, home: Engine) -> None:
    fill(home, [7])
    with home.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE item RENAME COLUMN state TO status")

    done = here("add", "Items", "7", "--reason", "x")

    assert done.exit_code == 2
    assert "the select of Items fails" in done.stderr
    assert "item.state" in done.stderr
    assert "Background" not in done.stderr


def test_a_row_that_is_not_there_cannot_be_quarantined(here: Here, home: Engine) -> None:
    done = here("add", "Items", "7", "--reason", "x")

    assert done.exit_code == 1
    assert "Items 7: there is no such row" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("release", "Items"), "give a KEY, or --all"),
        (("release", "Items", "7", "--all"), "give a KEY, or --all"),
        (("release", "Itmes", "7"), "did you mean 'Items'"),
        (("release", "Items", "seven"), "id is a int"),
        (("release", "Items", "7", "--shard", "eu1"), "has no shards"),
        (("add", "Items", "7"), "--reason"),
        (("add", "Items", "--reason", "x"), "give a KEY"),
    ],
)
def test_mistakes_of_usage_are_told_apart(
    here: Here, home: Engine, words: tuple[str, ...], said: str
) -> None:
    done = here(*words)

    assert done.exit_code == 2, done.stderr
    assert said in done.stderr


def test_without_sql_the_commands_say_so_within_three_seconds(command: Command) -> None:
    listed = command("quarantine", "list", DATABASE_URL=NOWHERE)
    released = command("quarantine", "release", "Items", "7", DATABASE_URL=NOWHERE)

    assert (listed.returncode, released.returncode) == (5, 5)
    assert "127.0.0.1:1" in listed.stderr + released.stderr


def test_without_our_tables_the_remedy_is_named(command: Command) -> None:
    done = command("quarantine", "list")

    assert done.returncode == 5
    assert "reconciler upgrade" in done.stderr


def test_what_has_ended_badly_is_in_sql_when_redis_is_empty(
    states: RowStates, raw: Any, engines: Engines, home: Engine
) -> None:
    died(raw, states, find("Items"), (7,))
    raw.flushall()

    with home.connect() as connection:
        rows = connection.execute(select(row_state.c.state).where(row_state.c.job_class == "Work"))
        assert [row.state for row in rows] == ["quarantined"]
