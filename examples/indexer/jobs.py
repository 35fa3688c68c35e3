"""The job: index one file, with an effect that happens once however often it runs."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, and_, insert, select, update

from examples.indexer.database import engine
from examples.indexer.documents import Found, read
from examples.indexer.models import Document, Effect, Status
from qik_core import Job


class IndexFile(Job, queue="index", retry=5, unique_for=timedelta(hours=1), unique_until="success"):
    """Reads the file of one document and stores what it found."""

    def perform(self, document_id: int) -> None:
        """Index one document. Every run leaves a row in `indexer_effect`, also one that finds nothing to do."""
        run = begin(document_id, self.context.jid)
        finish(run, read(run.path, run.rate))


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the job, and what it has to read."""

    id: str
    document_id: int
    path: Path
    rate: int


def begin(document_id: int, jid: str) -> Run:
    """Record that a run has started.

    Raises:
        sqlalchemy.exc.NoResultFound: there is no such document.
    """
    row = {
        "run": uuid.uuid4().hex,
        "document_id": document_id,
        "jid": jid,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "started": time.monotonic(),
    }
    query = select(Document.path, Document.rate).where(Document.id == document_id)
    with engine().begin() as connection:
        connection.execute(insert(Effect), [row])
        document = connection.execute(query).one()
    return Run(str(row["run"]), document_id, Path(document.path), document.rate)


def finish(run: Run, found: Found) -> None:
    """Store what was found and how the run ended, in one transaction."""
    values = {"status": Status.DONE, **asdict(found)}
    with engine().begin() as connection:
        done = connection.execute(update(Document).where(guard(run.document_id)).values(values))
        ended = {"ended": time.monotonic(), "applied": done.rowcount == 1}
        connection.execute(update(Effect).where(Effect.run == run.id).values(ended))


def guard(document_id: int) -> ColumnElement[bool]:
    """Return what makes the effect happen once: a run that comes second changes no row."""
    return and_(Document.id == document_id, Document.status == Status.PENDING)
