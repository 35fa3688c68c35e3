"""The ledger: every pass, how it ended and what it counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reconciler.tables import OPTIONS

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
revision = "reconciler_0002"
down_revision = "reconciler_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reconciler_pass",
        sa.Column("id", BIG, primary_key=True, autoincrement=True),
        sa.Column("reconciler", sa.String(100), nullable=False),
        sa.Column("shard", sa.String(100), nullable=False, server_default=""),
        sa.Column("job_class", sa.String(200), nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("term", BIG, nullable=False),
        sa.Column("epoch", sa.String(64), nullable=False, server_default=""),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.Column("outcome", sa.String(20)),
        sa.Column("reason", sa.Text()),
        sa.Column("scanned", BIG, nullable=False, server_default="0"),
        sa.Column("pages", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("page_size", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("codes", sa.Text(), nullable=False),
        sa.Column("cursor", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciler_pass")),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index(
        op.f("ix_reconciler_pass_reconciler_shard_id"),
        "reconciler_pass",
        ["reconciler", "shard", "id"],
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_reconciler_pass_started_at"), "reconciler_pass", ["started_at"], if_not_exists=True
    )


def downgrade() -> None:
    op.drop_table("reconciler_pass", if_exists=True)
