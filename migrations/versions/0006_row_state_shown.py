"""What a person wants to see of such a row: the error, the arguments; and which chances it has had."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "reconciler_0006"
down_revision = "reconciler_0005"
branch_labels = None
depends_on = None

TABLE = "reconciler_row_state"
COLUMNS = ("error", "args", "chances")
KNOWS_IF_NOT_EXISTS = ("postgresql", "mariadb")


def upgrade() -> None:
    there = _there()
    knows = op.get_context().dialect.name in KNOWS_IF_NOT_EXISTS
    for name in COLUMNS:
        if name not in there:
            op.add_column(TABLE, sa.Column(name, sa.Text()), if_not_exists=knows or None)


def downgrade() -> None:
    there = _there()
    for name in COLUMNS:
        if name in there or context.is_offline_mode():
            op.drop_column(TABLE, name)


def _there() -> set[str]:
    if context.is_offline_mode():
        return set()
    return {each["name"] for each in sa.inspect(op.get_bind()).get_columns(TABLE)}
