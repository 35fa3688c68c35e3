"""What a pass measured: ages, times, what had been lost and why."""

from __future__ import annotations

from reconciler.migrate import add_texts, drop_columns

revision = "reconciler_0007"
down_revision = "reconciler_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    add_texts("reconciler_pass", "details")


def downgrade() -> None:
    drop_columns("reconciler_pass", "details")
