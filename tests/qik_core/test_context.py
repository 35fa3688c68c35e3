from __future__ import annotations

from typing import Any

import pytest

from qik_core.context import Context
from qik_core.errors import Cancelled
from qik_core.payload import Payload

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
