"""What is remembered of a row whose job died, crashed or made no progress."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from reconciler.tables import OPTIONS

# Compared byte by byte: a digest must not meet another one that differs in case only.
DIGEST = (
    sa.String(32, collation="C")
    .with_variant(sa.String(32), "sqlite")
    .with_variant(mysql.VARCHAR(32, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
)

revision = "reconciler_0003"
down_revision = "reconciler_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reconciler_row_state",
        sa.Column("job_class", sa.String(200), nullable=False),
        sa.Column("shard", sa.String(100), nullable=False, server_default=""),
        sa.Column("key_digest", DIGEST, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("crashes", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("no_progress", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("next_at", sa.Double(), nullable=False, server_default="0"),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("row_version", sa.String(200), nullable=False, server_default=""),
        sa.Column("last_jid", sa.String(64), nullable=False, server_default=""),
        sa.Column("first_at", sa.Double(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(
            "job_class", "shard", "key_digest", name=op.f("pk_reconciler_row_state")
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'quarantined')", name=op.f("ck_reconciler_row_state_state")
        ),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_index(
        op.f("ix_reconciler_row_state_state_next_at"),
        "reconciler_row_state",
        ["state", "next_at"],
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("reconciler_row_state", if_exists=True)
