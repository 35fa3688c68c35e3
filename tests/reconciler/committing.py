"""What the tests of pushes after a commit share: a job, a row with its job, and what became of both."""

from __future__ import annotations

from typing import Any

import redis
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from qik_core import Job
from tests.qik_core.jobs_of_tests import stored
from tests.reconciler.shop import Item


class Sync(Job, queue="work"):
    def perform(self, item_id: int) -> None: ...


def new(session: Session, number: int) -> None:
    """Insert a row and push its job after the commit: the two must share their fate."""
    session.add(Item(id=number, state="pending", rank=0, version=1))
    session.flush()
    Sync.after_commit(session).perform_async(number)


def told(raw: redis.Redis) -> list[Any]:
    """The arguments of the jobs, in the order of their pushes."""
    return [each["args"][0] for each in reversed(stored(raw, "queue:work"))]


def rows(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(select(Item.id).order_by(Item.id)))
