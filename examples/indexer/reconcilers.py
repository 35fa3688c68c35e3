"""Which rows want which job: the one place that says it."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from examples.indexer.jobs import IndexFile
from examples.indexer.models import Document, Status
from reconciler import Reconciler, derive


class PendingDocuments(
    Reconciler, every=timedelta(seconds=1), jitter=timedelta(seconds=1), recheck=False
):
    """Every document that is not indexed wants to be.

    Jobs do not look at their row before they run: a run that is repeated after its commit is what this example shows.
    """

    pending = derive(IndexFile, select(Document.id).where(Document.status == Status.PENDING))
