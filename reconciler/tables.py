"""Our own tables, as the migrations make them, and the filters that keep them out of users' autogenerate.

All times are epoch seconds by the database's own clock: one type that every database compares and subtracts alike,
without a time zone to lose (ADR 0021). No statement joins these tables with users' tables: they may live elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    false,
)
from sqlalchemy.dialects import mysql

PREFIX: Final = "reconciler_"
VERSION_TABLE: Final = "reconciler_alembic_version"

NAMING: Final[Mapping[str, str]] = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "pk": "pk_%(table_name)s",
}

# Compared byte by byte: a digest must not meet another one that differs in case only.
_Digest = (
    String(32, collation="C")
    .with_variant(String(32), "sqlite")
    .with_variant(mysql.VARCHAR(32, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
)
_Big = BigInteger().with_variant(
    Integer, "sqlite"
)  # SQLite numbers rows by itself only in INTEGER columns
_Long = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")

_HOW: Final = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}
OPTIONS: Final[dict[str, Any]] = {
    f"{kind}_{name}": value for kind in ("mysql", "mariadb") for name, value in _HOW.items()
}
"""How MariaDB keeps our tables, whatever its defaults are: with transactions, any text, and names that differ in case
only apart. Two reconcilers must not meet in one row."""

metadata = MetaData(naming_convention=dict(NAMING))

lease = Table(
    "reconciler_lease",
    metadata,
    Column("reconciler", String(100), nullable=False),
    Column("shard", String(100), nullable=False, server_default=""),
    Column("holder", String(200)),
    Column("term", _Big, nullable=False, server_default="0"),
    Column("expires_at", Double, nullable=False, server_default="0"),
    Column("taken_at", Double, nullable=False, server_default="0"),
    PrimaryKeyConstraint("reconciler", "shard"),
    **OPTIONS,
)

passes = Table(
    "reconciler_pass",
    metadata,
    Column("id", _Big, primary_key=True, autoincrement=True),
    Column("reconciler", String(100), nullable=False),
    Column("shard", String(100), nullable=False, server_default=""),
    Column("job_class", String(200), nullable=False),
    Column("holder", String(200), nullable=False),
    Column("term", _Big, nullable=False),
    Column("epoch", String(64), nullable=False, server_default=""),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("outcome", String(20)),
    Column("reason", Text),
    Column("scanned", _Big, nullable=False, server_default="0"),
    Column("pages", Integer, nullable=False, server_default="0"),
    Column("page_size", Integer, nullable=False, server_default="0"),
    Column("codes", Text, nullable=False),
    Column("cursor", Text),
    Column("details", Text),
    Index(None, "reconciler", "shard", "id"),
    Index(None, "started_at"),
    **OPTIONS,
)

row_state = Table(
    "reconciler_row_state",
    metadata,
    Column("job_class", String(200), nullable=False),
    Column("shard", String(100), nullable=False, server_default=""),
    Column("key_digest", _Digest, nullable=False),
    Column("key", Text, nullable=False),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("no_progress", Integer, nullable=False, server_default="0"),
    Column("next_at", Double, nullable=False, server_default="0"),
    Column("state", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("row_version", String(200), nullable=False, server_default=""),
    Column("last_jid", String(64), nullable=False, server_default=""),
    Column("first_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
    Column("error", Text),
    Column("args", Text),
    Column("chances", Text),
    PrimaryKeyConstraint("job_class", "shard", "key_digest"),
    CheckConstraint("state IN ('waiting', 'quarantined')", name="state"),
    Index(None, "state", "next_at"),
    Index(None, "job_class", "key_digest"),
    **OPTIONS,
)

audit = Table(
    "reconciler_audit",
    metadata,
    Column("id", _Big, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("who", String(200), nullable=False),
    Column("action", String(50), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("term", _Big),
    Column("details", _Long, nullable=False),
    Index(None, "subject", "id"),
    Index(None, "at"),
    **OPTIONS,
)

switch = Table(
    "reconciler_switch",
    metadata,
    Column("name", String(200), nullable=False),
    Column("source", String(20), nullable=False),
    Column("value", _Long, nullable=False),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("who", String(200), nullable=False, server_default=""),
    Column("reason", Text, nullable=False),
    Column("set_at", Double, nullable=False),
    Column("expires_at", Double),
    PrimaryKeyConstraint("name", "source"),
    **OPTIONS,
)

note = Table(
    "reconciler_note",
    metadata,
    Column("kind", String(20), nullable=False),
    Column("name", String(201), nullable=False),
    Column("value", Text, nullable=False),
    Column("at", Double, nullable=False),
    PrimaryKeyConstraint("kind", "name"),
    **OPTIONS,
)


def ours(name: str | None) -> bool:
    """Return whether a table of this name belongs to this package."""
    return name is not None and (name == VERSION_TABLE or name in metadata.tables)


def include_name(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:
    """Keep our tables out of your autogenerate: `context.configure(include_name=include_name)`.

    Without it Alembic finds our tables in your database, not in your metadata, and emits `drop_table` for them. It is
    asked before the tables are read, so it costs less than `include_object`.
    """
    return not ours(name if type_ == "table" else parent_names.get("table_name"))


def include_object(
    obj: Any,  # noqa: ARG001 - Alembic's signature
    name: str | None,
    type_: str,
    reflected: bool,  # noqa: ARG001, FBT001 - Alembic's signature
    compare_to: Any,  # noqa: ARG001 - Alembic's signature
) -> bool:
    """Do as `include_name`, for an `env.py` that already uses that hook."""
    return not (type_ == "table" and ours(name))
