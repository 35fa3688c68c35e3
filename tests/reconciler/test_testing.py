"""`flush_drill`: users' own reconcilers on their own database, with Redis emptied at the worst moments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job, settings
from reconciler import Fair, Reconciler, derive
from reconciler.testing import FlushDrillFailed, Point, flush_drill


class Base(DeclarativeBase):
    """The tables of a user."""


class Invoice(Base):
    __tablename__ = "invoice"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    charged: Mapped[int]


@pytest.fixture
def shop(sqlite_url: str) -> Iterator[Engine]:
    """A database with invoices, and the settings that name it."""
    engine = create_engine(sqlite_url, connect_args={"timeout": 30})
    Base.metadata.create_all(engine)
    rows = [{"id": each, "status": "open", "charged": 0} for each in range(1, 13)]
    with engine.begin() as connection:
        connection.execute(insert(Invoice), rows)
    before = settings.current()
    settings.use(settings.load({"databases": {"default": sqlite_url}}, environ={}))
    yield engine
    settings.use(before)
    engine.dispose()


def charged(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(select(Invoice.charged).order_by(Invoice.id)))


def test_rows_of_ones_own_survive_every_point(shop: Engine) -> None:
    class Charge(Job, unique_for=3600):
        def perform(self, invoice_id: int) -> None:
            mine = update(Invoice).where(Invoice.id == invoice_id, Invoice.status == "open")
            with shop.begin() as connection:
                connection.execute(mine.values(status="paid", charged=Invoice.charged + 1))

    class Open(Reconciler, every=60):
        pending = derive(Charge, select(Invoice.id).where(Invoice.status == "open"))

    before = settings.current()

    found = flush_drill(Open)

    assert found.rows == 12
    assert found.points == tuple(Point)
    assert found.runs >= 12
    assert charged(shop) == [1] * 12
    assert settings.current() is before


def test_a_job_that_works_nothing_off_is_named_with_what_it_raised(shop: Engine) -> None:
    class Charge(Job, unique_for=3600):
        def perform(self, invoice_id: int) -> None:
            raise ValueError("no such account")

    class Open(Reconciler, every=60):
        pending = derive(Charge, select(Invoice.id).where(Invoice.status == "open"))

    with pytest.raises(FlushDrillFailed, match=r"12 rows are still pending.*no such account"):
        flush_drill(Open, points=[Point.QUEUED], timeout=3)


def test_rows_that_are_not_told_again_are_lost_and_named(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Charge(Job, unique_for=3600):
        def perform(self, invoice_id: int) -> None: ...

    class Open(Reconciler, every=60):
        pending = derive(Charge, select(Invoice.id).where(Invoice.status == "open"))

    monkeypatch.setattr(
        "qik_core.passes.Passes.audit", lambda *_: False
    )  # what finds lists deleted

    with pytest.raises(FlushDrillFailed, match=r"12 of 12 rows are lost after the point lists"):
        flush_drill(Open, points=["queued", "lists"])


@pytest.mark.slow
def test_two_runs_of_one_row_at_once_are_noticed_even_of_jobs_that_take_no_time(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Charge(Job, unique_for=3600):
        def perform(self, invoice_id: int) -> None:
            with shop.begin() as connection:
                mine = update(Invoice).where(Invoice.id == invoice_id)
                connection.execute(mine.values(status="paid"))

    class Open(Reconciler, every=60, recheck=False):
        pending = derive(Charge, select(Invoice.id).where(Invoice.status == "open"))

    from qik_core.store.worker import WorkerStore

    hold = WorkerStore.hold
    monkeypatch.setattr(
        WorkerStore,
        "hold",
        lambda store, link, _, *, mark="", **__: hold(store, link, (), mark=mark),
    )

    with pytest.raises(FlushDrillFailed, match="two runs of one row were under way at once"):
        flush_drill(Open, points=[Point.RUNNING])


def test_a_point_counts_as_met_by_what_was_lost_there_alone(shop: Engine) -> None:
    class Charge(Job, unique_for=3600, retry=0):
        def perform(self, invoice_id: int) -> None:
            with shop.begin() as connection:
                mine = update(Invoice).where(Invoice.id == invoice_id)
                connection.execute(mine.values(status="paid"))
            raise ValueError(
                "the receipt was not printed"
            )  # so it never ends well, nor is tried again

    class Open(Reconciler, every=60):
        pending = derive(Charge, select(Invoice.id).where(Invoice.status == "open"))

    found = flush_drill(Open, points=["ended", "queued", "retrying"])

    assert found.points == (Point.QUEUED,)


def test_a_trap_whose_job_raised_is_sprung_on_the_next_one(shop: Engine) -> None:
    raised: list[int] = []

    class Charge(Job, unique_for=3600):
        def perform(self, invoice_id: int) -> None:
            if not raised:
                raised.append(invoice_id)
                raise ValueError("the first one")
            with shop.begin() as connection:
                mine = update(Invoice).where(Invoice.id == invoice_id)
                connection.execute(mine.values(status="paid"))

    class Open(Reconciler, every=60):
        pending = derive(Charge, select(Invoice.id).where(Invoice.status == "open"))

    found = flush_drill(Open, points=["ended"])

    assert raised
    assert found.points == (Point.ENDED,)


def test_rows_that_passes_leave_out_on_purpose_are_counted_apart(shop: Engine) -> None:
    class Charge(Job, unique_for=3600):
        def perform(self, invoice_id: int) -> None:
            with shop.begin() as connection:
                mine = update(Invoice).where(Invoice.id == invoice_id)
                connection.execute(mine.values(status="paid"))

    class Remind(Job, unique_for=3600):
        def perform(self, invoice_id: int) -> None: ...

    class Open(Reconciler, every=60):
        pending = derive(Charge, select(Invoice.id).where(Invoice.status == "open"))

    class Unpaid(Reconciler, every=60, shadow=True):
        pending = derive(Remind, select(Invoice.id).where(Invoice.id < 6))

    found = flush_drill(Open, Unpaid, points=["queued", "lists"])

    assert (found.rows, found.held) == (12, 5)
    with pytest.raises(ValueError, match="0 rows are pending beside 5 that are held back"):
        flush_drill(Unpaid)


def test_shares_of_tenants_lose_no_row(shop: Engine) -> None:
    class Charge(Job, unique_for=3600):
        def perform(self, invoice_id: int) -> None:
            with shop.begin() as connection:
                mine = update(Invoice).where(Invoice.id == invoice_id)
                connection.execute(mine.values(status="paid", charged=Invoice.charged + 1))

    class Open(Reconciler, every=60, fair=Fair(per_tenant=4)):
        rows = select(Invoice.id).where(Invoice.status == "open")
        pending = derive(Charge, rows, tenant=Invoice.charged)

    assert flush_drill(Open, points=["queued", "lists"]).rows == 12
    assert min(charged(shop)) == 1


def test_too_few_rows_and_points_that_there_are_not_are_refused(shop: Engine) -> None:
    class Charge(Job, unique_for=3600):
        def perform(self, invoice_id: int) -> None: ...

    class Open(Reconciler, every=60):
        pending = derive(Charge, select(Invoice.id).where(Invoice.id < 3))

    with pytest.raises(ValueError, match="2 rows are pending, and a drill needs 3 at least"):
        flush_drill(Open)
    with pytest.raises(ValueError, match="'lunch' is not a valid Point"):
        flush_drill(Open, points=["lunch"])
