"""Who runs which reconciler, until when, in which term."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reconciler.tables import OPTIONS

revision = "reconciler_0001"
down_revision = None
branch_labels = ("reconciler",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reconciler_lease",
        sa.Column("reconciler", sa.String(100), nullable=False),
        sa.Column("shard", sa.String(100), nullable=False, server_default=""),
        sa.Column("holder", sa.String(200)),
        sa.Column(
            "term",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            server_default="0",
        ),
        sa.Column("expires_at", sa.Double(), nullable=False, server_default="0"),
        sa.Column("taken_at", sa.Double(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("reconciler", "shard", name=op.f("pk_reconciler_lease")),
        if_not_exists=True,
        **OPTIONS,
    )


def downgrade() -> None:
    op.drop_table("reconciler_lease", if_exists=True)
