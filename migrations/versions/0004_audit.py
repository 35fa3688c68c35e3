"""Who did what to which reconciler, class or row, and why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reconciler.tables import OPTIONS

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
revision = "reconciler_0004"
down_revision = "reconciler_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reconciler_audit",
        sa.Column("id", BIG, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("action", sa.String(50), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("term", BIG),
        sa.Column("details", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconciler_audit")),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index(
        op.f("ix_reconciler_audit_subject_id"),
        "reconciler_audit",
        ["subject", "id"],
        if_not_exists=True,
    )
    op.create_index(op.f("ix_reconciler_audit_at"), "reconciler_audit", ["at"], if_not_exists=True)


def downgrade() -> None:
    op.drop_table("reconciler_audit", if_exists=True)
