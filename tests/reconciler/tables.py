"""Our tables in an empty database, as the migrations make them: by Alembic the first time, later by what it sent then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Engine, event

from reconciler import migrate
from reconciler.tables import VERSION_TABLE
from tests.reconciler.shop import Base

_MAKES: Final = ("CREATE", "ALTER", "DROP", "INSERT", "UPDATE")
_sent: Final[dict[str, list[str]]] = {}
"""What makes our tables, by kind of database."""


def make(engine: Engine) -> None:
    """Make our tables and the shop's."""
    ours(engine)
    Base.metadata.create_all(engine)


def ours(engine: Engine) -> None:
    """Make our tables. A test of migrations calls `migrate` itself."""
    kind = engine.dialect.name
    if kind in _sent:
        _repeat(engine, _sent[kind])
    else:
        with _noted(engine) as sent:
            migrate.upgrade(engine)
        _sent[kind] = _as_they_are(engine) if kind == "mariadb" else sent


@contextmanager
def _noted(engine: Engine) -> Iterator[list[str]]:
    """Note the statements that change something."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().startswith(_MAKES):
            assert not parameters, f"what Alembic sends has no parameters: {statement}"
            sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def _as_they_are(engine: Engine) -> list[str]:
    """Return what makes the same tables at once, where each change of one takes its time."""
    with engine.connect() as connection:
        names = list(connection.exec_driver_sql("SHOW TABLES").scalars())
        made = [connection.exec_driver_sql(f"SHOW CREATE TABLE {name}").one()[1] for name in names]
    return [*made, f"INSERT INTO {VERSION_TABLE} VALUES ('{migrate.head()}')"]


def _repeat(engine: Engine, statements: list[str]) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
