"""What processes of reconcilers leave to those after them: where a rebuild stands, what was last known of Redis."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from reconciler.tables import OPTIONS

revision = "reconciler_0008"
down_revision = "reconciler_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reconciler_note",
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("name", sa.String(201), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_reconciler_note")),
        if_not_exists=True,
        **OPTIONS,
    )


def downgrade() -> None:
    op.drop_table("reconciler_note", if_exists=True)
