from __future__ import annotations

from reconciler.drift import Cause, Loss, causes
from reconciler.states import Reason


def one(
    reason: Reason | None = None,
    *,
    orphan: bool = False,
    age: float | None = None,
    loss: Loss | None = None,
) -> Cause:
    return causes([reason], [orphan], [age], loss)[0]


def test_a_row_that_nobody_told_is_untold() -> None:
    assert one() is Cause.UNTOLD


def test_what_is_remembered_of_a_row_says_why_it_has_no_job() -> None:
    said = {each: one(each, orphan=True, loss=Loss(100.0)) for each in Reason}

    assert said == {
        Reason.DIED: Cause.DIED,
        Reason.CRASHED: Cause.CRASH,
        Reason.NO_PROGRESS: Cause.NO_PROGRESS,
        Reason.TERMINAL: Cause.DIED,
        Reason.OPERATOR: Cause.LOCK_WITHOUT_JOB,  # a person's word says nothing of a job
    }


def test_a_lock_without_its_job_is_surer_than_a_loss_of_redis() -> None:
    assert one(orphan=True, loss=Loss(100.0)) is Cause.LOCK_WITHOUT_JOB


def test_after_a_loss_of_redis_rows_that_had_been_told_count_as_flushed() -> None:
    loss = Loss(told_until=100.0)

    assert one(age=99.9, loss=loss) is Cause.FLUSH
    assert one(age=100.0, loss=loss) is Cause.UNTOLD
    assert one(age=None, loss=loss) is Cause.FLUSH


def test_each_row_of_many_has_its_own_cause() -> None:
    found = causes(
        [None, Reason.CRASHED, None, None],
        [True, False, False, False],
        [5.0, 5.0, 5.0, 500.0],
        Loss(100.0),
    )

    assert found == [Cause.LOCK_WITHOUT_JOB, Cause.CRASH, Cause.FLUSH, Cause.UNTOLD]


def test_without_any_age_all_rows_count_as_told_before() -> None:
    assert causes([None, None], [False, False], None, Loss(1.0)) == [Cause.FLUSH] * 2
