"""A shop whose items are in shards: one reconciler, a database per shard, and the home database apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, select

from qik_core import Job
from reconciler import Reconciler, Shards, derive_sharded
from reconciler.definition import Definition
from tests.reconciler.shop import Base, Item, fill

PENDING = select(Item.id).where(Item.state == "pending")


def shard(folder: Path, name: str, rows: int = 0) -> str:
    """Make the database of a shard, with so many pending items; returns its URL."""
    url = f"sqlite:///{folder}/{name}.db"
    engine: Engine = create_engine(url)
    Base.metadata.create_all(engine)
    if rows:
        fill(engine, range(1, rows + 1))
    engine.dispose()
    return url


def sharded(load: Callable[[], Mapping[str, Any]], **options: Any) -> Definition:
    """Define a job on items of shards and a reconciler of it."""

    class ShardWork(Job, queue="work", unique_for=3600):
        def perform(self, shard: str, item_id: int) -> None: ...

    every = options.pop("every", 3600)

    class Items(Reconciler, every=every, shards=Shards(load), **options):
        pending = derive_sharded(ShardWork, PENDING)

    return Items.definition
