from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from qik_core import Job, registry, rows
from qik_core.context import Context
from qik_core.errors import Cancelled, QikError
from qik_core.payload import Payload
from tests.qik_core.telling import Table

JOB = Payload({"class": "X", "args": [], "jid": "j1", "queue": "low"})


@pytest.mark.parametrize(
    ("count", "attempt"), [(None, 1), (0, 2), (4, 6), ("x", 1), (-1, 1), (True, 1)]
)
def test_the_first_run_is_attempt_1_and_the_first_retry_attempt_2(count: Any, attempt: int) -> None:
    assert Context(JOB.replace(retry_count=count)).attempt == attempt


def test_a_run_knows_its_job() -> None:
    context = Context(JOB)

    assert (context.jid, context.queue, context.payload) == ("j1", "low", JOB)


def test_a_checkpoint_is_passed_until_the_run_is_cancelled() -> None:
    context = Context(JOB)
    context.checkpoint()
    before = context.cancelled

    context.cancel()
    assert (before, context.cancelled) == (False, True)
    with pytest.raises(Cancelled, match="job j1 was cancelled"):
        context.checkpoint()


# --- the row ------------------------------------------------------------------------


@pytest.fixture
def table() -> Iterator[Table]:
    table = Table(7)
    with rows.filled(lambda: table):
        yield table


def made(*args: Any) -> Context:
    with registry.scope():

        class Sharded(Job, unique_for=60):
            def perform(self, shard: str, n: int) -> None: ...

        class Plain(Job, unique_for=60):
            def perform(self, n: int) -> None: ...

    kind = Sharded if len(args) == 2 else Plain
    return Context(JOB, kind.definition, args)


def test_a_run_knows_its_shard_by_its_first_parameter() -> None:
    assert (made("eu", 7).shard, made(7).shard, Context(JOB).shard) == ("eu", "", "")


def test_a_run_reaches_its_row_and_a_session_on_its_database(table: Table) -> None:
    context = made(7)

    assert context.row == {"number": 7}
    with context.session() as session:
        assert session == "session of Plain(7)"
    table.pending.clear()
    assert context.row is None


def test_a_run_whose_row_nobody_knows_says_what_is_missing() -> None:
    with rows.filled(None):
        with pytest.raises(QikError, match="import the module with its reconciler"):
            _ = made(7).row
        with pytest.raises(QikError, match="nothing here knows the row"):
            made(7).session()
