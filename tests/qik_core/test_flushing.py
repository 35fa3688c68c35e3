from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from qik_core.flushing import Flushing, Found
from qik_core.store.flush import FlushStore, TurnLost
from tests.qik_core.store.rig import Rig

HELD = "qik:held:Charge"


class Says:
    """Removes nothing, or all; takes note of what it was asked and told, and does something at each question."""

    def __init__(self, *, out: bool = False, then: Callable[[], object] = lambda: None) -> None:
        self.asked: list[str] = []
        self.gone: list[str] = []
        self._out, self._then = out, then

    def judge(self, jobs: Sequence[Found]) -> list[bool]:
        self.asked += [job.jid for job in jobs]
        self._then()
        return [self._out] * len(jobs)

    def ended(self, jobs: Sequence[Found], removed: Sequence[bool]) -> None:
        self.gone += [job.jid for job, out in zip(jobs, removed, strict=True) if out]


def flushing(rig: Rig, pauses: list[float] | None = None, **rest: Any) -> Flushing:
    wait = (pauses if pauses is not None else []).append
    return Flushing(rig.store, who="alice", **{"wait": wait, **rest})


def hold(rig: Rig, *numbers: int) -> None:
    """Let these jobs be held, at the end where pushes arrive."""
    for start in range(0, len(numbers), 400):
        rig.push(*numbers[start : start + 400], queue="more")
    for raw in rig.raw.lrange("queue:more", 0, -1)[::-1]:
        rig.raw.lpush(HELD, raw)
        rig.raw.hincrby("qik:held", "Charge", len(raw))
    rig.raw.delete("queue:more", "qik:n:queue:more")


def states(rig: Rig) -> str:
    """Return the states of all locks of the present generation, sorted."""
    found = rig.raw.hgetall("qik:unique:" + rig.store.look().generation)
    return "".join(sorted(chr(rec[0]) for name, rec in found.items() if name != b"#"))


# --- its turn ------------------------------------------------------------------------------------


def test_a_flush_that_removes_nothing_keeps_its_turn_window_by_window(rig: Rig, raw: Any) -> None:
    hold(rig, *range(1, 1301))
    left: list[int] = []

    def nearly_over() -> None:
        left.append(raw.pttl("qik:flusher"))
        raw.pexpire("qik:flusher", 5_000)

    flushing(rig).run(Says(then=nearly_over), {HELD.encode()}, whole=False)

    assert len(left) >= 3
    assert min(left) > 20_000


def test_a_flush_whose_turn_others_take_pauses_and_begins_anew_and_gives_up_in_the_end(
    rig: Rig, raw: Any
) -> None:
    hold(rig, 1, 2)
    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        raw.delete("qik:flusher")

    says = Says(out=True, then=lambda: raw.set("qik:flusher", "ffff 1 elsewhere bob"))
    with pytest.raises(TurnLost, match="another flush"):
        flushing(rig, wait=wait).run(says, {HELD.encode()}, whole=False)

    assert pauses == [0.2] * 9
    assert len(says.asked) == 20
    assert says.gone == []
    assert raw.llen(HELD) == 2


def test_a_flush_whose_turn_another_took_once_goes_on_behind_it(rig: Rig, raw: Any) -> None:
    hold(rig, 1, 2)
    took: list[bool] = []
    waited: list[str] = []

    def take() -> None:
        if not took:
            took.append(raw.set("qik:flusher", "ffff 1 elsewhere bob"))

    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raw.delete("qik:flusher")

    says = Says(out=True, then=take)
    flushing(rig, wait=wait).run(says, {HELD.encode()}, whole=False, waits=waited.append)

    assert waited == ["bob", "bob"]
    assert len(says.gone) == 2
    assert not raw.exists(HELD, "qik:flusher")


def test_a_flush_that_loses_its_turn_behind_the_last_job_it_could_remove_begins_anew(
    rig: Rig, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(rig, *range(1, 201))
    drop, begun = FlushStore._drop, list[bool]()

    def come() -> None:
        """Let half of them be out of their window when they are removed."""
        if not begun:
            begun.append(True)
            hold(rig, *range(10_001, 10_401))

    def taken(self: FlushStore, *rest: Any, more: bool) -> bytes:
        if more and len(begun) == 1:
            begun.append(raw.set("qik:flusher", "ffff 1 elsewhere bob"))
        return drop(self, *rest, more=more)

    monkeypatch.setattr(FlushStore, "_drop", taken)
    says = Says(out=True, then=come)
    flushing(rig, wait=lambda _: raw.delete("qik:flusher")).run(says, {HELD.encode()}, whole=False)

    assert len(begun) == 2
    assert len(says.gone) == len(set(says.gone)) == 600
    assert not raw.exists(HELD)


# --- beside others -------------------------------------------------------------------------------


@pytest.mark.parametrize("pushed", [1, 300])
def test_pushes_between_windows_of_held_jobs_hide_none_and_none_goes_twice_and_it_ends(
    rig: Rig, pushed: int
) -> None:
    hold(rig, *range(1, 1301))
    numbers = iter(range(10_001, 20_000))
    says = Says(out=True, then=lambda: hold(rig, *[next(numbers) for _ in range(pushed)]))

    flushing(rig).run(says, {HELD.encode()}, whole=False)

    assert len(says.gone) == len(set(says.gone))
    assert {f"{n:024x}" for n in range(1, 1301)} <= set(says.gone)
    assert rig.raw.llen(HELD) == rig.locks() > 0


def test_jobs_that_are_scheduled_meanwhile_do_not_keep_a_flush_from_its_end(rig: Rig) -> None:
    rig.push(*range(1, 301), delays=[60.0] * 300)
    numbers = iter(range(10_001, 10_100))
    says = Says(out=True, then=lambda: rig.push(next(numbers), delays=[90.0]))

    flushing(rig).run(says, {b"schedule"}, whole=False)

    assert set(says.gone) >= {f"{n:024x}" for n in range(1, 301)}


def test_pushes_between_windows_of_held_jobs_that_stay_keep_none_from_its_lock(rig: Rig) -> None:
    hold(rig, *range(1, 1301))
    numbers = iter(range(10_001, 20_000))
    says = Says(then=lambda: hold(rig, *[next(numbers) for _ in range(100)]))

    flushing(rig).run(says, {HELD.encode()}, whole=True)

    assert {f"{n:024x}" for n in range(1, 1301)} <= set(says.asked)
    assert states(rig) == "q" * rig.raw.llen(HELD)


@pytest.mark.parametrize("place", ["queue", "later", "held"])
def test_a_job_that_comes_just_before_everything_gets_a_new_loss_id_has_its_lock_behind_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    rig.push(1, 2)
    worker = rig.worker()
    assert len(worker.fetch(want=1)) == 1
    renew = FlushStore.renew

    def late(self: FlushStore, loss: str) -> Any:
        if place == "queue":
            rig.push(5, queue="new")
        elif place == "later":
            rig.tell(5, delays=[60.0], queue="new")
        else:
            hold(rig, 5)
        return renew(self, loss)

    monkeypatch.setattr(FlushStore, "renew", late)
    flushing(rig).run(Says(), {b"queue:default"}, whole=True)
    assert states(rig) in ("qq", "qs")

    worker.beat()
    worker.beat()
    assert states(rig) in ("qqr", "qrs")
    assert rig.edge(50, keys=[5])[0].value in ("duplicate_queued", "advanced")
