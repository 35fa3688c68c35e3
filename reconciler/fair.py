"""Fair shares: every tenant's first row comes before anybody's second, and a pass tells only so many of one tenant.

The database ranks the rows of each tenant in the declared order; pages run along (rank, order, key). So it sorts all
pending rows for each statement, whatever a page holds: therefore one statement reads several pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Select, case, func, select
from sqlalchemy.sql.elements import ColumnElement

from reconciler.options import Fair
from reconciler.shape import LABEL, Order, Shape

Position: TypeAlias = tuple[Any, ...]

PAGES: Final = 10
"""Pages that one statement reads: ranking costs the same for one."""
_RANK: Final = f"{LABEL}rank"


def ranked(
    shape: Shape, rows: Select[Any], most: int, late_before: float | None
) -> tuple[Select[Any], tuple[Order, ...]]:
    """Return the statement of rows up to a rank within their tenant, and the order in which their pages run.

    The rank stands behind all other columns of a row. Rows that were due before `late_before` (epoch seconds) are not
    going to be told, so they come last within their tenant.
    """
    inside = list(rows.subquery(f"{LABEL}rows").c)
    within = [directed(inside[each.at], each) for each in shape.order]
    if late_before is not None and shape.run_at is not None:
        within.insert(0, case((inside[shape.run_at.at] < late_before, 1), else_=0))
    tenant = None if shape.tenant_at is None else inside[shape.tenant_at]
    rank = func.row_number().over(partition_by=tenant, order_by=within)
    outside = list(select(*inside, rank.label(_RANK)).subquery(f"{LABEL}ranked").c)
    order = [Order(outside[-1], False, len(outside) - 1)]  # noqa: FBT003 - ascending
    order += [Order(outside[each.at], each.descending, each.at) for each in shape.order]
    return select(*outside).where(outside[-1] <= most), tuple(order)


def directed(column: ColumnElement[Any], order: Order) -> ColumnElement[Any]:
    """Return a column as ORDER BY has it."""
    return column.desc() if order.descending else column.asc()


class Ahead:
    """Hands out the rows of one statement as pages; asks again where a page does not follow the last one."""

    def __init__(self, read: Callable[[Position | None, int], Sequence[Any]]) -> None:
        self._read = read
        self._rows: Sequence[Any] = ()
        self._after: Position | None = None
        self._all = False

    def page(
        self, after: Position | None, limit: int, position: Callable[[Any], Position]
    ) -> Sequence[Any]:
        """Return up to `limit` rows behind a position."""
        follows = after is not None and after == self._after
        if not follows or (len(self._rows) < limit and not self._all):
            rows = self._read(after, limit * PAGES)
            self._rows, self._all = rows, len(rows) < limit * PAGES
        page, self._rows = self._rows[:limit], self._rows[limit:]
        self._after = position(page[-1]) if page else None
        return page


class Shares:
    """Counts the rows of each tenant that a pass may still tell: rows that are held back have taken nobody's share."""

    def __init__(self, shape: Shape, fair: Fair) -> None:
        self._at = shape.tenant_at
        self._most = fair.per_tenant
        self._taken: Counter[Any] = Counter()

    def admit(self, rows: Sequence[Any]) -> list[int]:
        """Return the places of the rows whose tenant has a share left, and take it."""
        if self._at is None:
            return list(range(len(rows)))
        places = []
        for place, row in enumerate(rows):
            tenant = row[self._at]
            if self._taken[tenant] < self._most:
                self._taken[tenant] += 1
                places.append(place)
        return places
