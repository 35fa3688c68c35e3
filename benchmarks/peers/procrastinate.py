"""procrastinate, in the PostgreSQL of BENCH_POSTGRES; what has ended is deleted. Its tables are made when they are missing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from procrastinate import App, JobContext, PsycopgConnector, SyncPsycopgConnector

from benchmarks import tally

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_POSTGRES"]))


@app.task(queue="bench", pass_context=True)
async def noop(context: JobContext, number: int) -> None:
    """Count."""
    tally.saw(str(context.job.id), number)


@app.task(queue="bench", pass_context=True)
async def stamp(context: JobContext, number: int) -> None:
    """Tell how long it has waited."""
    tally.waited(str(context.job.id), number)


@app.task(queue="bench")
async def warm(number: int) -> None:
    """Say that this process works."""
    del number
    tally.here()


JOBS = {"noop": noop, "stamp": stamp, "warm": warm}


@contextmanager
def session() -> Iterator[None]:
    """Hold a connection of plain code."""
    connector = SyncPsycopgConnector(conninfo=os.environ["BENCH_POSTGRES"])
    with app.replace_connector(connector) as plain, plain.open():
        yield


def one(job: str, value: int) -> None:
    """Push one job."""
    JOBS[job].defer(number=value)


def many(values: Sequence[int]) -> None:
    """Push many jobs in one call."""
    noop.batch_defer(*({"number": value} for value in values))
