"""The service's own tables: what is to be indexed, and every run that tried."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Index, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Status(StrEnum):
    """Where a document stands. There is no third state: a row that is not done wants a job."""

    PENDING = "pending"
    DONE = "done"


class Base(DeclarativeBase):
    """The tables of this service."""


class Document(Base):
    """One file."""

    __tablename__ = "indexer_document"
    __table_args__ = (Index("indexer_document_status", "status", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    path: Mapped[str] = mapped_column(String(1024), unique=True)
    rate: Mapped[int]
    """Bytes a second at which this file may be read: an indexer shares its disk."""
    status: Mapped[str] = mapped_column(String(16))
    size: Mapped[int | None]
    sha256: Mapped[str | None] = mapped_column(String(64))
    words: Mapped[int | None]


class Effect(Base):
    """One run of the job, written by the run itself. Times are seconds of the machine's monotonic clock."""

    __tablename__ = "indexer_effect"

    run: Mapped[str] = mapped_column(String(32), primary_key=True)
    document_id: Mapped[int] = mapped_column(index=True)
    jid: Mapped[str] = mapped_column(String(64))
    pid: Mapped[int]
    parent: Mapped[int]
    """The pid of the worker's parent process."""
    started: Mapped[float]
    ended: Mapped[float | None]
    """None while it runs, and for ever if its process died."""
    applied: Mapped[bool | None]
    """True: this run made the document done. False: it found it done. None: it did not come that far."""
