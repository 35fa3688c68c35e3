from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from qik_core.passes import ANY_VERSION, Ended, EndedKind
from reconciler.options import Quarantine
from reconciler.states import (
    CHANGED,
    Change,
    Hold,
    Reason,
    Seen,
    State,
    after,
    backoff,
    judge,
    shown,
)

POLICY = Quarantine(after=3, crashes=2, no_progress=2, backoff=(10, 1_000))
DIGEST = "abcdefghijklmnopqrstuv"


def record(kind: EndedKind = EndedKind.DIED, **said: Any) -> Ended:
    values: dict[str, Any] = {
        "name": "Work",
        "digest": DIGEST,
        "args": [7],
        "version": ANY_VERSION,
        "jid": "jid",
        "error": "ValueError: bad",
        "at": 1.0,
        **said,
    }
    return Ended(kind=kind, **values)


def ends(*kinds: EndedKind, policy: Quarantine = POLICY, release: str = "", **said: Any) -> State:
    """Return what is remembered after these ends."""
    state: State | None = None
    for kind in kinds:
        change = after(state, record(kind, **said), policy, key="7", args="[7]", release=release)
        state = change.state
    assert state is not None
    return state


def seen(
    tag: str | None = None, release: str = "", *, due: bool = False, quarantined: int = 1
) -> Seen:
    return Seen(tag, release, due, quarantined)


def met(state: State, what: Seen, policy: Quarantine = POLICY) -> tuple[Hold | None, Change | None]:
    verdict = judge(state, what, policy)
    return verdict.hold, verdict.change


# --- a job has ended -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "limit", "counter"),
    [
        (EndedKind.DIED, 3, "failures"),
        (EndedKind.CRASHED, 2, "crashes"),
        (EndedKind.NO_PROGRESS, 2, "no_progress"),
    ],
)
def test_a_row_waits_until_it_has_ended_badly_too_often(
    kind: EndedKind, limit: int, counter: str
) -> None:
    states = [ends(*[kind] * times) for times in range(1, limit + 1)]

    assert [getattr(each, counter) for each in states] == list(range(1, limit + 1))
    assert [each.hold for each in states] == [Hold.WAITING] * (limit - 1) + [Hold.QUARANTINED]
    assert {each.reason for each in states} == {Reason(kind.value)}


def test_ends_of_different_kinds_are_counted_apart_and_lengthen_the_same_wait() -> None:
    state = ends(EndedKind.DIED, EndedKind.CRASHED, EndedKind.NO_PROGRESS)

    assert (state.hold, state.ends) == (Hold.WAITING, 3)
    assert backoff(POLICY, 3, DIGEST) > 2 * backoff(POLICY, 1, DIGEST)


def test_a_job_that_can_never_succeed_quarantines_its_row_at_once() -> None:
    state = ends(EndedKind.TERMINAL)

    assert (state.hold, state.reason, state.failures) == (Hold.QUARANTINED, Reason.TERMINAL, 1)


def test_a_retry_by_hand_forgets_the_row() -> None:
    state = ends(*[EndedKind.DIED] * 3)

    change = after(state, record(EndedKind.RETRIED), POLICY, key="", args="", release="")

    assert change.state is None


def test_another_end_of_a_quarantined_row_leaves_it_quarantined() -> None:
    state = ends(EndedKind.TERMINAL, EndedKind.CRASHED)

    assert (state.hold, state.crashes) == (Hold.QUARANTINED, 1)


def test_what_an_operator_has_quarantined_keeps_its_reason_whatever_ends() -> None:
    state = State(
        job="Work", digest=DIGEST, hold=Hold.QUARANTINED, reason=Reason.OPERATOR, error="harmful"
    )

    change = after(state, record(), POLICY, key="7", args="[7]", release="")

    assert change.state is not None
    assert (change.state.reason, change.state.error) == (Reason.OPERATOR, "harmful")
    assert change.state.failures == 1


def test_waits_grow_twofold_up_to_the_longest_and_differ_from_row_to_row() -> None:
    waits = [backoff(POLICY, times, DIGEST) for times in (1, 2, 3, 4, 40, 4_000)]
    others = {backoff(POLICY, 1, f"{at:022}") for at in range(100)}

    for times, wait in zip((1, 2, 3, 4), waits, strict=False):
        assert 0.8 * 10 * 2 ** (times - 1) <= wait <= 1.2 * 10 * 2 ** (times - 1)
    assert all(800 <= each <= 1_200 for each in waits[-2:])
    assert waits[0] == backoff(POLICY, 1, DIGEST)
    assert len(others) == 100
    assert (min(others) < 9, max(others) > 11) == (True, True)
    assert all(8 <= each <= 12 for each in others)


def test_the_default_waits_are_five_minutes_to_a_day() -> None:
    policy = Quarantine()
    waits = [backoff(policy, times, DIGEST) for times in range(1, 12)]

    assert 240 <= waits[0] <= 360
    assert waits[-1] <= 1.2 * timedelta(days=1).total_seconds()
    assert all(late > early for early, late in pairwise(waits[:7]))


# --- a pass meets the row ------------------------------------------------------------------------


def test_a_waiting_row_is_held_until_its_time_has_come() -> None:
    state = ends(EndedKind.DIED)

    assert met(state, seen()) == (Hold.WAITING, None)
    assert met(state, seen(due=True)) == (None, None)


def test_a_quarantined_row_is_held_whatever_the_time() -> None:
    state = ends(*[EndedKind.DIED] * 3)

    assert met(state, seen(due=True)) == (Hold.QUARANTINED, None)


def test_a_row_that_changed_after_a_pass_has_seen_it_is_forgotten() -> None:
    state = ends(*[EndedKind.DIED] * 3, version="aaaaaa")
    hold, change = met(state, seen("aaaaaa"))
    assert hold is Hold.QUARANTINED
    assert change is not None
    assert change.state is not None

    assert met(change.state, seen("aaaaaa")) == (Hold.QUARANTINED, None)
    assert met(change.state, seen("bbbbbb")) == (None, Change(None))


def test_a_row_that_changed_before_any_pass_saw_it_gets_one_run_at_once_and_no_second() -> None:
    state = ends(*[EndedKind.DIED] * 3, version="aaaaaa")

    hold, change = met(state, seen("bbbbbb"))
    assert hold is None
    assert change is not None
    assert change.state is not None
    assert (change.state.hold, change.delay) == (Hold.WAITING, 0.0)
    assert CHANGED in change.state.chances

    again = after(
        change.state, record(version="bbbbbb"), POLICY, key="7", args="[7]", release=""
    ).state
    assert again is not None
    assert again.hold is Hold.QUARANTINED
    assert met(again, seen("cccccc"))[0] is Hold.QUARANTINED


def test_a_job_that_writes_to_its_own_row_at_each_failure_is_quarantined_all_the_same() -> None:
    state: State | None = None
    runs, tag = 0, 0
    for _ in range(50):
        due = state is not None and state.hold is Hold.WAITING
        if state is not None:
            hold, change = met(state, seen(f"{tag:06}", due=due))
            state = change.state if change is not None else state
            if hold is not None:
                continue
        runs += 1
        told, tag = tag, tag + 1
        state = after(
            state, record(version=f"{told:06}"), POLICY, key="7", args="[7]", release=""
        ).state

    assert state is not None
    assert state.hold is Hold.QUARANTINED
    assert runs <= POLICY.after + 1


def test_a_version_that_nobody_knew_is_learnt_by_the_first_pass() -> None:
    state = ends(*[EndedKind.DIED] * 3)

    hold, change = met(state, seen("aaaaaa"))

    assert hold is Hold.QUARANTINED
    assert change is not None
    assert change.state is not None
    assert change.delay is None
    assert met(change.state, seen("bbbbbb")) == (None, Change(None))


def test_a_new_release_gives_a_quarantined_row_one_run() -> None:
    state = ends(*[EndedKind.DIED] * 3, release="v1")
    assert met(state, seen(release="v1")) == (Hold.QUARANTINED, None)
    assert met(state, seen(release="")) == (Hold.QUARANTINED, None)

    hold, change = met(state, seen(release="v2"))
    assert hold is None
    assert change is not None
    assert change.state is not None
    again = after(change.state, record(), POLICY, key="7", args="[7]", release="v2").state

    assert again is not None
    assert again.hold is Hold.QUARANTINED
    for release in ("v1", "v2"):  # while both run, during a deploy
        assert met(again, seen(release=release)) == (Hold.QUARANTINED, None)
    assert met(again, seen(release="v3"))[0] is None


def test_a_new_release_frees_many_rows_one_after_the_other() -> None:
    delays = []
    for at in range(1_000):
        state = State(job="Work", digest=f"{at:022}", hold=Hold.QUARANTINED)
        hold, change = met(state, seen(release="v2", quarantined=1_000))
        assert hold is Hold.WAITING
        assert change is not None
        assert change.delay is not None
        delays.append(change.delay)

    assert 0 < min(delays) < 5
    assert 90 < max(delays) < 100


def test_a_new_release_frees_however_many_rows_within_an_hour() -> None:
    state = State(job="Work", digest=DIGEST, hold=Hold.QUARANTINED)

    _, change = met(state, seen(release="v2", quarantined=1_000_000))

    assert change is not None
    assert change.delay is not None
    assert 0 < change.delay <= 3_600


def test_what_an_operator_has_quarantined_is_freed_by_an_operator_only() -> None:
    state = State(
        job="Work", digest=DIGEST, hold=Hold.QUARANTINED, reason=Reason.OPERATOR, version="aaaaaa"
    )

    assert met(state, seen("bbbbbb", "v2", due=True)) == (Hold.QUARANTINED, None)


def test_a_class_may_say_what_frees_its_rows() -> None:
    state = ends(*[EndedKind.DIED] * 3, version="aaaaaa", release="v1")
    by_version = Quarantine(after=3, reset_on=("version",))
    by_nothing = Quarantine(after=3, reset_on=())

    assert met(state, seen("bbbbbb"), by_version)[0] is None
    assert met(state, seen(release="v2"), by_version)[0] is Hold.QUARANTINED
    assert met(state, seen("bbbbbb", "v2"), by_nothing) == (Hold.QUARANTINED, None)


def test_only_the_last_releases_are_remembered_and_the_chance_of_a_change_always() -> None:
    state = State(job="Work", digest=DIGEST, chances=(CHANGED,))
    for at in range(30):
        found = after(state, record(), POLICY, key="7", args="[7]", release=f"v{at}").state
        assert found is not None
        state = found

    assert CHANGED in state.chances
    assert len(state.chances) == 11
    assert state.chances[-1] == "v29"


def test_keys_are_shown_as_people_read_them() -> None:
    assert shown([7], ["item_id"], ["item_id"]) == "7"
    assert shown([1, "x", 2], ["org", "note", "user"], ["org", "user"]) == "org=1 user=2"
    assert shown([], ["item_id"], ["item_id"]) == ""
