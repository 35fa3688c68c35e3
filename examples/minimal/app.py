"""The smallest whole thing: a table, a job, and a reconciler that says which rows want the job.

cd examples/minimal
python app.py       # writes ten letters and starts everything, which sends them; Ctrl-C ends it
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta

from sqlalchemy import create_engine, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from qik_core import Job
from reconciler import Reconciler, derive

engine = create_engine(os.environ.setdefault("DATABASE_URL", "sqlite:///letters.db"))


class Base(DeclarativeBase):
    """The tables of this application."""


class Letter(Base):
    """A letter that is to be sent, once."""

    __tablename__ = "letter"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    sent: Mapped[bool] = mapped_column(default=False)


class SendLetter(Job, retry=5, unique_for=timedelta(hours=1)):
    """Sends one letter."""

    def perform(self, letter_id: int) -> None:
        """Send it, if nobody has: a run that comes second changes no row."""
        unsent = update(Letter).where(Letter.id == letter_id, ~Letter.sent)
        with engine.begin() as connection:
            if connection.execute(unsent.values(sent=True)).rowcount:
                print(f"letter {letter_id} is sent")


class UnsentLetters(Reconciler, every=timedelta(seconds=2), jitter=timedelta(seconds=1)):
    """Every letter that is not sent wants the job, whoever wrote it and whatever Redis has forgotten."""

    pending = derive(SendLetter, select(Letter.id).where(~Letter.sent))


if __name__ == "__main__":
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Letter), [{"text": "hello"}] * 10)
    os.execv(sys.executable, [sys.executable, "-m", "qik_core.cli", "dev", "app"])
