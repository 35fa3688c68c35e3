"""Our tables, made and moved on by Alembic; nothing else in this package imports it."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Final

from alembic import command, context, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, Engine, Text, inspect

from reconciler.sql import translated
from reconciler.tables import VERSION_TABLE

_HERE: Final = Path(__file__).resolve().parent
_alembic = Lock()  # its context is global to the process


def location() -> Path:
    """Return the folder of the migrations: inside the wheel, or beside the package in the repository."""
    inside = _HERE / "_migrations"
    return inside if inside.is_dir() else _HERE.parent / "migrations"


def config() -> Config:
    """Return Alembic's configuration, without any file of it."""
    made = Config()
    made.set_main_option("script_location", str(location()).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    return made


def upgrade(database: Engine | Connection, revision: str = "heads") -> None:
    """Make our tables, or move them on to this release. Several processes may do so at once.

    A connection that is in a transaction stays in it: committing is up to you.

    Raises:
        SqlUnavailable: the database cannot be reached, or another upgrade holds the lock.
    """
    if isinstance(database, Engine):
        with translated(database), database.connect() as connection:
            _upgrade(connection, revision)
    else:
        with translated(database.engine):
            _upgrade(database, revision)


def _upgrade(connection: Connection, revision: str) -> None:
    made = config()
    made.attributes["connection"] = connection
    with _alembic:
        command.upgrade(made, revision)


def sql(dialect: str, revision: str = "heads") -> None:
    """Print the statements of an upgrade from nothing, for a database that only its administrator may change."""
    made = config()
    made.set_main_option("sqlalchemy.url", f"{dialect}://")
    command.upgrade(made, revision, sql=True)


def current(engine: Engine) -> str | None:
    """Return the revision of our tables, None where there are none.

    Raises:
        SqlUnavailable: the database cannot be reached.
    """
    with translated(engine), engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return context.get_current_revision()


def head() -> str:
    """Return the revision that this release needs."""
    found = ScriptDirectory.from_config(config()).get_current_head()
    if found is None:
        raise FileNotFoundError(f"no migrations in {location()}: install the package again")
    return found


# --- for the migrations themselves ----------------------------------------------------------------


def add_texts(table: str, *names: str) -> None:
    """Add columns of text that may be NULL, but for those that are there: an upgrade that died half-way is repeated."""
    there = _columns(table)
    knows = op.get_context().dialect.name in ("postgresql", "mariadb")
    for name in names:
        if name not in there:
            op.add_column(table, Column(name, Text()), if_not_exists=knows or None)


def drop_columns(table: str, *names: str) -> None:
    """Remove columns, but for those that are gone."""
    there = _columns(table)
    for name in names:
        if name in there or context.is_offline_mode():
            op.drop_column(table, name)


def _columns(table: str) -> set[str]:
    if context.is_offline_mode():
        return set()
    return {each["name"] for each in inspect(op.get_bind()).get_columns(table)}
