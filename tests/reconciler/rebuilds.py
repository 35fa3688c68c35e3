"""What the tests of rebuilds share: job classes with reconcilers of their own, what was told, tools on another seam."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from qik_core import Job
from qik_core.passes import Passes
from reconciler import Reconciler, derive
from reconciler.definition import Definition
from reconciler.passes import Tools
from reconciler.rebuilt import Order
from tests.reconciler.shop import Item

PENDING = select(Item.id).where(Item.state == "pending")
FAST = Order(rate=None)


def class_of(name: str, state: str, **options: Any) -> Definition:
    """Define a job class of its own with a reconciler of the items in a state."""
    job: Any = type(name, (Job,), {"perform": _perform}, queue=name.lower(), unique_for=3600)
    query = select(Item.id).where(Item.state == state)
    columns = {key: options.pop(key) for key in ("age", "order_by") if key in options}

    class Made(Reconciler, every=60, name=f"{name}s", **options):
        pending = derive(job, query, **columns)

    return Made.definition


def _perform(self: Any, item_id: int) -> None: ...


def keys_on(raw: Any, queue: str = "work") -> list[int]:
    """The keys of the jobs of a queue, in the order in which they were told."""
    found = [
        int(each.partition(b'"args":[')[2].partition(b"]")[0])
        for each in raw.lrange(f"queue:{queue}", 0, -1)
    ]
    return found[::-1]


def with_seam(tools: Tools, seam: Passes) -> Tools:
    return Tools.of(seam, tools.engines, "test")
