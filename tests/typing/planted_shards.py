"""Planted errors with shards, R1 to R6: mypy strict and pyright must report these lines and no others. Never imported."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job
from reconciler import Reconciler, Shards, derive, derive_sharded


class Base(DeclarativeBase): ...


class Export(Base):
    __tablename__ = "export"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]


class Build(Job):
    def perform(self, shard: str, export_id: int) -> None: ...


class Pair(Job):
    def perform(self, shard: str, tenant: str, export_id: int) -> None: ...


class Plain(Job):
    def perform(self, export_id: int) -> None: ...


derive_sharded(Build, select(Export.tenant))  # R1 a str for an int
derive_sharded(Pair, select(Export.id, Export.tenant))  # R2 swapped
derive_sharded(Plain, select(Export.id))  # R3 it takes no shard
derive(Build, select(Export.id))  # R4 derive() knows nothing of shards
derive_sharded(Pair, select(Export.id), args=lambda row: (row[0],))  # R5 too few


class Exports(Reconciler, every=60, shards={"eu1": "sqlite://"}):  # R6 not Shards(...)
    pending = derive_sharded(Build, select(Export.id))


print(Shards)
