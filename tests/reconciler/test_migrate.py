from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, MetaData, insert, inspect, select, text

from reconciler import migrate, tables
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable

TABLES = {
    "reconciler_alembic_version",
    "reconciler_audit",
    "reconciler_lease",
    "reconciler_note",
    "reconciler_pass",
    "reconciler_row_state",
    "reconciler_switch",
}
ROOT = Path(__file__).parents[2]


@pytest.fixture
def empty(engines: Engines) -> Engine:
    return engines.home()


def test_an_upgrade_makes_all_tables_and_a_second_one_changes_nothing(empty: Engine) -> None:
    assert migrate.current(empty) is None

    migrate.upgrade(empty)
    migrate.upgrade(empty)

    assert set(inspect(empty).get_table_names()) == TABLES
    assert migrate.current(empty) == migrate.head()


def test_the_tables_are_those_that_the_code_speaks_of(empty: Engine) -> None:
    migrate.upgrade(empty)

    with empty.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": tables.VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, tables.metadata) == []


def test_each_revision_makes_one_table_or_adds_to_one_and_its_way_back_unmakes_it(
    empty: Engine,
) -> None:
    made: list[set[tuple[str, str]]] = [set()]
    for number in range(1, int(migrate.head()[-4:]) + 1):
        migrate.upgrade(empty, f"reconciler_{number:04d}")
        made.append(_columns(empty))
        # none at all: it widens a column that is there
        assert len({table for table, _ in made[-1] - made[-2]}) <= 1

    config = migrate.config()
    with empty.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert inspect(empty).get_table_names() == ["reconciler_alembic_version"]


def _columns(engine: Engine) -> set[tuple[str, str]]:
    tables_there = inspect(engine)
    return {
        (table, column["name"])
        for table in tables_there.get_table_names()
        if table != "reconciler_alembic_version"
        for column in tables_there.get_columns(table)
    }


def test_a_way_back_cuts_no_long_text(mariadb_url: str) -> None:
    engine = Engines({"default": mariadb_url}).home()
    migrate.upgrade(engine)
    long = "x" * 100_000
    row = {"at": 1.0, "who": "", "action": "", "subject": "", "reason": "", "details": long}
    with engine.begin() as connection:
        connection.execute(insert(tables.audit).values(row))
        config = migrate.config()
        config.attributes["connection"] = connection
        command.downgrade(config, "reconciler_0009")
        assert connection.execute(select(tables.audit.c.details)).scalar_one() == long
    migrate.upgrade(engine)
    engine.dispose()


def test_tables_that_are_there_already_are_no_obstacle(empty: Engine) -> None:
    tables.metadata.create_all(empty)

    migrate.upgrade(empty)

    assert migrate.current(empty) == migrate.head()


def test_an_upgrade_in_the_applications_own_transaction_is_rolled_back_with_it(
    postgres_url: str,
) -> None:
    engine = Engines({"default": postgres_url}).home()
    with engine.connect() as connection, connection.begin() as transaction:
        migrate.upgrade(connection)
        transaction.rollback()

    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_many_processes_may_upgrade_at_once(database_url: str, empty: Engine) -> None:
    code = (
        "import sys; from reconciler import engines, migrate; "
        "migrate.upgrade(engines.make(sys.argv[1]))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, database_url], cwd=ROOT, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    said = [process.communicate()[1] for process in started]

    assert [process.returncode for process in started] == [0] * 3, said
    assert set(inspect(empty).get_table_names()) == TABLES


def test_an_upgrade_leaves_the_applications_own_alembic_alone(empty: Engine) -> None:
    with empty.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))

    migrate.upgrade(empty)

    with empty.connect() as connection:
        rows = connection.execute(text("SELECT version_num FROM alembic_version")).all()
    assert [tuple(row) for row in rows] == [("theirs",)]


@pytest.mark.parametrize("hook", ["include_name", "include_object"])
def test_the_applications_autogenerate_does_not_drop_our_tables(empty: Engine, hook: str) -> None:
    migrate.upgrade(empty)
    with empty.connect() as connection:
        bare = MigrationContext.configure(connection)
        dropped = [each for each in compare_metadata(bare, MetaData()) if each[0] == "remove_table"]
        kept = MigrationContext.configure(connection, opts={hook: getattr(tables, hook)})

        assert len(dropped) == len(TABLES)
        assert compare_metadata(kept, MetaData()) == []


@pytest.mark.parametrize("dialect", ["postgresql", "mariadb+pymysql", "mysql+pymysql", "sqlite"])
def test_the_sql_can_be_printed_for_an_administrator(
    dialect: str, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate.sql(dialect)

    printed = capsys.readouterr().out
    assert all(f"CREATE TABLE IF NOT EXISTS {name}" in printed for name in tables.metadata.tables)


def test_an_unreachable_database_is_said_to_be_so() -> None:
    with pytest.raises(SqlUnavailable, match=r"127\.0\.0\.1:1"):
        migrate.upgrade(Engines({"default": "postgresql+psycopg://127.0.0.1:1/x"}).home())


def test_the_branch_has_a_label_of_its_own() -> None:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(migrate.config())
    assert script.get_revision("reconciler@head").revision == migrate.head()
