"""Room for the rules of a switch with many tenants and keys, before and after, in the audit: MariaDB's TEXT ends at 64 KB."""

from __future__ import annotations

from alembic import op
from sqlalchemy.dialects import mysql

revision = "reconciler_0010"
down_revision = "reconciler_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_context().dialect.name in ("mysql", "mariadb"):
        op.alter_column(
            "reconciler_audit",
            "details",
            existing_type=mysql.TEXT(),
            type_=mysql.MEDIUMTEXT(),
            nullable=False,
            existing_nullable=False,
        )


def downgrade() -> None:
    """Leave the column wide: TEXT would refuse what is longer than 64 KB, or cut it, and the older release reads both."""
