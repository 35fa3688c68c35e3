"""Room for long lists of tenants and keys in a switch: MariaDB's TEXT ends at 64 KB."""

from __future__ import annotations

from alembic import op
from sqlalchemy.dialects import mysql

revision = "reconciler_0009"
down_revision = "reconciler_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _change(mysql.TEXT(), mysql.MEDIUMTEXT())


def downgrade() -> None:
    _change(mysql.MEDIUMTEXT(), mysql.TEXT())


def _change(before: mysql.TEXT | mysql.MEDIUMTEXT, after: mysql.TEXT | mysql.MEDIUMTEXT) -> None:
    if op.get_context().dialect.name in ("mysql", "mariadb"):
        how = {"existing_type": before, "type_": after, "nullable": False}
        op.alter_column("reconciler_switch", "value", existing_nullable=False, **how)
