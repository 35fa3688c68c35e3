"""The application that a drill drills when none is named: rows that want one job each, whose effect happens once.

It is written as an application would be: a table, a job, one select.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from functools import cache, partial
from time import sleep
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Engine,
    Index,
    String,
    and_,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job, Payload, RetryIn
from reconciler.declaration import Reconciler
from reconciler.drill.evidence import Effects
from reconciler.engines import Engines
from reconciler.pending import derive
from reconciler.sql import again, reading, writing
from reconciler.tables import OPTIONS

QUEUE: Final = "drill"
PAGE: Final = 50
PENDING, DONE = "pending", "done"
_RETRY: Final = 1.5
"""Seconds until a failed job is tried again: long enough to be hit there."""
_ASK: Final = 10.0
_CHUNK: Final = 500


class Base(DeclarativeBase):
    """The tables of a drill."""


class Row(Base):
    """What wants a job."""

    __tablename__ = "qik_drill_row"
    __table_args__ = (Index("qik_drill_row_state", "state", "id"), OPTIONS)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(16), default=PENDING)
    seconds: Mapped[float]
    """How long its job takes."""
    failures: Mapped[int] = mapped_column(default=0)
    """How often its job fails before it ends well."""


class Effect(Base):
    """What a job has done: one line for each time."""

    __tablename__ = "qik_drill_effect"
    __table_args__ = (Index("qik_drill_effect_row", "row_id"), OPTIONS)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    row_id: Mapped[int] = mapped_column(BigInteger)
    jid: Mapped[str] = mapped_column(String(64))
    pid: Mapped[int]
    counts: Mapped[bool]
    """False: the run came second and changed nothing."""


class AsAskedError(Exception):
    """A job fails because its row says so."""


class DrillWork(Job, queue=QUEUE, retry=8, unique_for=timedelta(hours=1)):
    """Works off one row."""

    def perform(self, row_id: int) -> None:
        """Take as long as the row says, fail as often as it says, then have an effect once."""
        home = _home()
        asked = select(Row.seconds, Row.failures).where(Row.id == row_id)
        with reading(home, _ASK) as connection:
            seconds, failures = connection.execute(asked).one()
        sleep(seconds)
        if self.context.attempt <= failures:
            raise AsAskedError(f"row {row_id} fails {failures} times")
        again(lambda: _finish(home, row_id, self.context.jid))

    @classmethod
    def retry_in(cls, count: int, error: BaseException, job: Payload) -> RetryIn:  # noqa: ARG003
        """Retry soon: a drill is short."""
        return RetryIn(_RETRY)


class DrillRows(Reconciler, every=timedelta(seconds=1), batch_size=PAGE, edges=True):
    """Every row that is not done wants to be."""

    pending = derive(DrillWork, select(Row.id).where(Row.state == PENDING))


def guard(row_id: int) -> ColumnElement[bool]:
    """Return what makes the effect happen once: a run that comes second changes no row."""
    return and_(Row.id == row_id, Row.state == PENDING)


def _finish(home: Engine, row_id: int, jid: str) -> None:
    with writing(home) as connection:
        mine = connection.execute(update(Row).where(guard(row_id)).values(state=DONE))
        effect = {"row_id": row_id, "jid": jid, "pid": os.getpid(), "counts": mine.rowcount == 1}
        connection.execute(insert(Effect), [effect])


@cache
def _home() -> Engine:
    return Engines.from_settings().home()


# --- for the drill itself ------------------------------------------------------------------------


def prepare(home: Engine) -> None:
    """Make the tables anew."""
    Base.metadata.drop_all(home)
    Base.metadata.create_all(home)


def remove(home: Engine) -> None:
    """Remove the tables."""
    Base.metadata.drop_all(home)


def add(home: Engine, ids: Sequence[int], *, seconds: float, failures: int = 0) -> None:
    """Insert rows, pending."""
    rows: list[dict[str, Any]] = [
        {"id": each, "state": PENDING, "seconds": seconds, "failures": failures} for each in ids
    ]
    for at in range(0, len(rows), _CHUNK):
        again(partial(_insert, home, rows[at : at + _CHUNK]))


def _insert(home: Engine, rows: Sequence[dict[str, Any]]) -> None:
    with writing(home) as connection:
        connection.execute(insert(Row), rows)


def effects(home: Engine) -> Effects:
    """Return what has become of the rows."""
    counts = select(Effect.row_id).where(Effect.counts).group_by(Effect.row_id)
    with reading(home, _ASK) as connection:
        rows = connection.execute(select(func.count()).select_from(Row)).scalar_one()
        done = connection.execute(select(func.count()).where(Row.state == DONE)).scalar_one()
        twice = connection.execute(counts.having(func.count() > 1)).scalars().all()
        late = connection.execute(select(func.count()).where(~Effect.counts)).scalar_one()
    return Effects(rows, done, tuple(f"row {each}" for each in twice), late)
