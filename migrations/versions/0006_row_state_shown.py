"""What a person wants to see of such a row: the error, the arguments; which chances it has had; its class and key first."""

from __future__ import annotations

from alembic import op

from reconciler.migrate import add_texts, drop_columns

revision = "reconciler_0006"
down_revision = "reconciler_0005"
branch_labels = None
depends_on = None

TABLE = "reconciler_row_state"
INDEX = "ix_reconciler_row_state_job_class_key_digest"


def upgrade() -> None:
    add_texts(TABLE, "error", "args", "chances")
    op.create_index(op.f(INDEX), TABLE, ["job_class", "key_digest"], if_not_exists=True)


def downgrade() -> None:
    op.drop_index(op.f(INDEX), TABLE, if_exists=True)
    drop_columns(TABLE, "error", "args", "chances")
