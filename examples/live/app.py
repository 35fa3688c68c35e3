"""Orders that are to be shipped, and mails that follow: quick and slow jobs, some that fail at first, few that never work."""

from __future__ import annotations

import os
import time
from datetime import timedelta

from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job
from reconciler import Reconciler, derive

engine = create_engine(os.environ["DATABASE_URL"])


class Base(DeclarativeBase):
    """The tables of this application."""


class Order(Base):
    """An order that is to be shipped, once."""

    __tablename__ = "live_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    shipped: Mapped[bool] = mapped_column(default=False)


class ShipOrder(Job, queue="orders", unique_for=timedelta(hours=1)):
    """Ships one order, which takes between a tenth of a second and five."""

    def perform(self, order_id: int) -> None:
        """Ship it, if nobody has; then two mails are due."""
        time.sleep(0.1 + order_id % 8 * 0.7)
        mine = update(Order).where(Order.id == order_id, ~Order.shipped)
        with engine.begin() as connection:
            shipped = connection.execute(mine.values(shipped=True)).rowcount
        if shipped:
            SendReceipt.perform_async(order_id)
            AskForReview.perform_in(timedelta(seconds=30), order_id)


class SendReceipt(Job, queue="mail", retry=3):
    """Sends a receipt. For every seventh order the mail server answers at the second try."""

    def perform(self, order_id: int) -> None:
        """Pretend to."""
        if order_id % 7 == 0 and self.context.attempt == 1:
            raise TimeoutError(f"the mail server does not answer (receipt of order {order_id})")


class AskForReview(Job, queue="mail", retry=0):
    """Asks what the customer thinks. One customer of forty has no address, and no try will find it."""

    def perform(self, order_id: int) -> None:
        """Pretend to."""
        if order_id % 40 == 0:
            raise ValueError(f"the customer of order {order_id} has no address")


class UnshippedOrders(Reconciler, every=timedelta(seconds=2), jitter=timedelta(seconds=1)):
    """Every order that is not shipped wants to be, whoever took it and whatever Redis has forgotten."""

    pending = derive(ShipOrder, select(Order.id).where(~Order.shipped))
