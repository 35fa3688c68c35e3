"""Alembic's entry: our own tables, our own version table, one upgrade at a time.

Reached three ways: `reconciler upgrade` and `reconciler.migrate.upgrade(engine)` hand a connection over; plain
`alembic` in this repository takes `databases.default` from the settings; `--sql` needs no database.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection

from reconciler.engines import Engines
from reconciler.locking import one_at_a_time, prepared
from reconciler.tables import VERSION_TABLE, metadata, ours


def _only_ours(name: str | None, type_: str, parent_names: Any) -> bool:
    """Compare our tables only: the others in the database are the application's."""
    return ours(name if type_ == "table" else parent_names.get("table_name"))


def _configure(**how: Any) -> None:
    context.configure(
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        include_name=_only_ours,
        render_as_batch=True,  # SQLite cannot alter most things in place
        **how,
    )


def _online(given: Connection) -> None:
    connection = prepared(given)
    _configure(
        connection=connection, transactional_ddl=connection.dialect.name in ("postgresql", "sqlite")
    )
    with context.begin_transaction(), one_at_a_time(connection):
        context.run_migrations()


def _offline() -> None:
    name = context.config.get_main_option("sqlalchemy.url") or "postgresql://"
    _configure(url=name, literal_binds=True, dialect_opts={"paramstyle": "named"})
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    given = context.config.attributes.get("connection")
    if context.is_offline_mode():
        _offline()
    elif given is not None:
        _online(given)
    else:
        with Engines.from_settings().home().connect() as connection:
            _online(connection)


_run()
