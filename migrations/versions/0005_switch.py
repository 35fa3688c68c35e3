"""The last known switches and epoch, and what operators decided."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reconciler.tables import OPTIONS

revision = "reconciler_0005"
down_revision = "reconciler_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reconciler_switch",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("source", sa.String(20), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("who", sa.String(200), nullable=False, server_default=""),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("set_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.PrimaryKeyConstraint("name", "source", name=op.f("pk_reconciler_switch")),
        if_not_exists=True,
        **OPTIONS,
    )


def downgrade() -> None:
    op.drop_table("reconciler_switch", if_exists=True)
