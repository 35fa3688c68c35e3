"""What users write for rows in shards and for engines of asyncio. Checked by test_typing.py; importing it defines jobs."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from qik_core import Job, configure, job
from reconciler import Reconciler, Shards, derive_sharded


class Base(DeclarativeBase): ...


class Export(Base):
    __tablename__ = "typed_export"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    rank: Mapped[int]


class ShardedExport(Job, unique_for=3600):
    def perform(self, shard: str, export_id: int, force: bool = False) -> None:
        print(self.context.shard, shard, export_id, force)


class ShardedTenant(Job, unique_for=60, unique_args=["shard", "export_id"]):
    async def perform(self, shard: str, tenant: str, export_id: int) -> None: ...


@job(unique_for=60)
def sharded_mail(shard: str, export_id: int) -> None: ...


def engines() -> Mapping[str, Engine]:
    return {"eu1": create_engine("sqlite://")}


def makers() -> dict[str, sessionmaker[Session]]:
    return {"eu1": sessionmaker(create_engine("sqlite://"))}


class ShardedExports(Reconciler, every=60, shards=Shards(engines)):
    pending = derive_sharded(ShardedExport, select(Export.id), order_by=(Export.rank.desc(),))


class ShardedTenants(Reconciler, every=60, shards=Shards(lambda: {"eu1": "sqlite://"})):
    pending = derive_sharded(ShardedTenant, select(Export.tenant, Export.id))


class ShardedByArgs(Reconciler, every=60, shards=Shards(makers), name="ShardedByArgs"):
    pending = derive_sharded(
        ShardedTenant, select(Export.id, Export.tenant), args=lambda row: (row[1], row[0])
    )


class ShardedMails(Reconciler, every=60, shards=Shards(engines)):
    pending = derive_sharded(sharded_mail, select(Export.id))


def asynchronous(engine: AsyncEngine) -> None:
    configure(databases={"default": engine, "billing": async_sessionmaker(engine)})
    ShardedExport.perform_async("eu1", 7)
