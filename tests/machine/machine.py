"""The machine: hypothesis chooses who moves, who dies, what is lost and when; the oracle checks every step.

Two workers, a poller, clients, passes, rollers, and people who delete things. All code but the jobs is the engine's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from qik_core.store import Origin, due, keys
from tests.machine.process import FATES, QUEUES, Process
from tests.machine.world import EXCLUSIVE, World

KEYS: Final = st.integers(0, EXCLUSIVE - 1)
ONE: Final = st.integers(0, 1)
LOST: Final = st.sampled_from([False, False, False, True])
QUEUE: Final = st.sampled_from(QUEUES)
HOPS: Final = st.sampled_from([0.5, 5.0, 7.0, 61.0])
FATE: Final = st.sampled_from(["ok", "ok", "fails", *FATES])
VERSION: Final = st.sampled_from(["", "aaaaaa", "bbbbbb"])
_DELETABLE: Final = (
    keys.queue(""), keys.SCHEDULE, keys.RETRY, keys.later(""), keys.suspect(""), keys.UNIQUE, keys.EPOCH,
    keys.QUEUES, keys.WORKING_PREFIX, keys.ALIVE, keys.sent(""), keys.counted(b""), keys.ROLLER, keys.ROLL,
)  # fmt: skip
LOSS: Final = st.sampled_from(["all", "all", keys.UNIQUE, *_DELETABLE])
_LOSSES: Final = 2
_FAULTS: Final = 3


class Machine(RuleBasedStateMachine):
    """One run of a world, which `make` makes."""

    make: Callable[[], World]

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).make()
        self.losses = self.faults = 0

    def _up(self, at: int) -> Process:
        up = [process for process in self.world.processes if process.up]
        return up[at % len(up)]

    def _look_and_start(self, process: Process) -> None:
        for _ in range(3):  # after a loss it asserts first, and gives back what it has not started
            process.look()
            if process.hands.may_start():
                break
        while process.hands.may_start():
            self.world.start(process)

    def _lose_an_answer(self, process: Process) -> None:
        if process.exchanging is None:
            process.exchange()
        process.exchange(lose=True)
        process.look()

    def _busy(self) -> list[Process]:
        return [process for process in self.world.processes if process.up and process.hands.busy]

    def _frozen(self) -> list[Process]:
        return [process for process in self.world.processes if process.frozen]

    def _may_freeze(self) -> bool:
        return len(self._frozen()) < len(self.world.processes) - 1

    def _timed(self) -> list[bytes]:
        lengths = self.world.server.state.lengths
        return [source for source in due.sources(list(QUEUES)) if lengths.get(source)]

    # --- clients and passes ------------------------------------------------------

    @rule(number=KEYS, queue=QUEUE, delay=st.sampled_from([0.0, 0.0, 0.0, 3.0, 60.0]), lose=LOST)
    def edge(self, number: int, queue: str, delay: float, lose: bool) -> None:
        self.world.push([number], queue=queue, delay=delay, lose=lose)

    @rule(
        numbers=st.lists(KEYS, min_size=1, max_size=4),
        delay=st.sampled_from([0.0, 0.0, 4.0]),
        version=VERSION,
        lose=LOST,
    )
    def tell(self, numbers: Sequence[int], delay: float, version: str, lose: bool) -> None:
        self.world.push(numbers, origin=Origin.PASS, delay=delay, version=version, lose=lose)

    @rule(number=st.sampled_from([None, EXCLUSIVE]), delay=st.sampled_from([0.0, 3.0]), lose=LOST)
    def push_without_exclusion(self, number: int | None, delay: float, lose: bool) -> None:
        self.world.push([number], delay=delay, lose=lose)

    @precondition(lambda self: self.world.clients)
    @rule(lose=LOST)
    def a_client_goes_on(self, lose: bool) -> None:
        self.world.client_goes_on(0, lose=lose)

    # --- workers --------------------------------------------------------------------

    @rule(
        at=ONE,
        how=st.sampled_from(
            ["step", "step", "lose the answer", "send, lose the answer, send again"]
        ),
    )
    def exchange(self, at: int, how: str) -> None:
        process = self._up(at)
        if "send" in how:
            self._lose_an_answer(process)
        else:
            process.exchange(lose="lose" in how)

    @rule(at=ONE)
    def exchange_and_start(self, at: int) -> None:
        self._look_and_start(self._up(at))

    @rule(
        at=ONE,
        fate=FATE,
        how=st.sampled_from(["one", "all", "all, exchange", "all, exchange and lose the answer"]),
    )
    def end(self, at: int, fate: str, how: str) -> None:
        """End jobs that run; where none does, start some."""
        process = self._up(at)
        if not process.hands.busy:
            self.exchange_and_start(at)
            return
        for run in process.hands.busy[: 1 if how == "one" else None]:
            self.world.end(process, run, fate)
        if "lose" in how:
            self._lose_an_answer(process)
        elif "exchange" in how:
            process.look()

    @rule(
        at=ONE, how=st.sampled_from(["step", "step", "step, and lose the answer", "whole", "all"])
    )
    def beat(self, at: int, how: str) -> None:
        if "step" in how:
            self._up(at).beat(lose="lose" in how)
            return
        for process in self.world.processes if how == "all" else [self._up(at)]:
            if process.up:
                process.beat_whole()

    @precondition(lambda self: any(process.hands.pocket for process in self.world.processes))
    @rule(at=ONE)
    def hand_back(self, at: int) -> None:
        self._up(at).hand_back()

    # --- faults -----------------------------------------------------------------------

    @precondition(lambda self: self.faults < _FAULTS)
    @rule(
        at=ONE, what=st.sampled_from(["freezes", "crashes", "crashes, seen by its parent", "ends"])
    )
    def one_fails(self, at: int, what: str) -> None:
        self.faults += 1
        busy = self._busy()
        process = busy[at % len(busy)] if busy else self._up(at)
        if what == "freezes":
            if self._may_freeze():
                self.world.freeze(process)
        elif what == "ends":
            self.world.close(process)
        else:
            self.world.crash(process, seen=what != "crashes")

    @precondition(lambda self: self._frozen())
    @rule(convicted=st.booleans())
    def thaw(self, convicted: bool) -> None:
        if convicted:
            for _ in range(5):
                self.world.hop(5.0)
        else:
            self.world.thaw(self._frozen()[0])

    @precondition(lambda self: self.world.helpers)
    @rule(steps=st.sampled_from([1, 2, 3, 12]))
    def help_goes_on(self, steps: int) -> None:
        for _ in range(steps):
            if self.world.helpers[0].step():
                del self.world.helpers[0]
                return

    @precondition(
        lambda self: any(one.courier._closing.is_set() and one.up for one in self.world.processes)
    )
    @rule()
    def shut_down_goes_on(self) -> None:
        process = next(
            one for one in self.world.processes if one.courier._closing.is_set() and one.up
        )
        if process.courier.closed.is_set() and process.exchanging is None:
            self.world.leave(process)
        else:
            process.exchange()

    # --- poller and rollers ------------------------------------------------------------

    @precondition(lambda self: self._timed())
    @rule(at=st.integers(0, 3))
    def promote(self, at: int) -> None:
        timed = self._timed()
        self.world.promote(timed[at % len(timed)])

    @precondition(lambda self: len(self.world.rollers) < 2)
    @rule(proven=st.booleans())
    def begin_a_roll(self, proven: bool) -> None:
        if proven:
            self.world.audit()
        else:
            self.world.roll()

    @precondition(lambda self: self.world.rollers)
    @rule(at=ONE, steps=st.sampled_from([1, 2, 3, 12]), with_beats=st.booleans())
    def roll_goes_on(self, at: int, steps: int, with_beats: bool) -> None:
        if with_beats:
            self.beat(0, "all")
        rollers = self.world.rollers
        at %= len(rollers)
        for _ in range(steps):
            if rollers[at].step():
                del rollers[at]
                return

    # --- losses, and time ------------------------------------------------------------------

    @precondition(lambda self: self.losses < _LOSSES)
    @rule(what=LOSS, at=ONE)
    def lose(self, what: str | bytes, at: int) -> None:
        """Empty the server, or delete a key of this kind."""
        self.losses += 1
        if isinstance(what, str):
            self.world.flush()
            return
        found = sorted(name for name in self.world.server.state.names if name.startswith(what))
        if found:
            self.world.delete(found[-at])

    @precondition(lambda self: self._busy() and self.losses < _LOSSES and self._may_freeze())
    @rule(at=ONE, what=st.sampled_from(["all", keys.UNIQUE, keys.EPOCH]), frozen=st.booleans())
    def a_loss_under_a_run(self, at: int, what: str | bytes, frozen: bool) -> None:
        """Another process may run what was told again, while the first one still runs or is frozen."""
        busy = self._busy()
        process = busy[at % len(busy)]
        if frozen:
            self.world.freeze(process)
        self.lose(what, 0)
        self.world.push(range(EXCLUSIVE), origin=Origin.PASS)
        if frozen:
            self.world.hop(7.0)
        others = [one for one in self.world.processes if one.up and one is not process]
        for other in others:
            self._look_and_start(other)

    @rule(seconds=HOPS)
    def time_passes(self, seconds: float) -> None:
        self.world.hop(seconds)

    # --- the end ------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Heal, if no promise was broken before."""
        try:
            if not self.world.oracle.broken:
                self.world.heal()
        finally:
            self.world.stop()


def bound(make: Callable[[], World]) -> Any:
    """Return a machine whose every run has a world of its own."""
    return type("Bound", (Machine,), {"make": staticmethod(make)})
