"""Breadth-first over all interleavings: every state that can be reached, and the shortest way to one that is wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.model.move import Move
from tests.model.moves import moves
from tests.model.rules import Rules
from tests.model.state import (
    NOBODY,
    Budget,
    Naming,
    World,
    canonical,
    first,
    identities,
    naming,
    renamed,
)

Invariant = Callable[[World], bool]
"""True where the state is right. Its name and docstring say what it promises."""


@dataclass(frozen=True, slots=True)
class Counterexample:
    """How a state that breaks a promise was reached, in the fewest steps."""

    broken: str
    steps: Sequence[str]
    state: World

    def __str__(self) -> str:
        """Return the trace as people read it."""
        lines = [f"{self.broken} is broken after {len(self.steps)} steps:"]
        lines += [f"  {number:2}. {step}" for number, step in enumerate(self.steps, 1)]
        lines += [f"  Redis: {_said(self.state.store)}"]
        lines += [
            f"  process {i}: {_said(process)}" for i, process in enumerate(self.state.processes)
        ]
        return "\n".join(
            [*lines, f"  pending {self.state.pending}, unserved edge {self.state.unserved}"]
        )


def _said(values: object) -> str:
    fields, defaults = values._asdict(), getattr(type(values), "_field_defaults", {})  # type: ignore[attr-defined]
    told = [
        f"{name}={value}"
        for name, value in fields.items()
        if name not in defaults or defaults[name] != value
    ]
    return ", ".join(told) or "nothing"


@dataclass(slots=True)
class Graph:
    """All states that can be reached, by number, and how."""

    rules: Rules
    numbers: dict[World, int] = field(default_factory=dict)
    states: list[World] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    before: list[list[int]] = field(default_factory=list)
    """For each state, from which it can be reached without a fault."""

    def number(self, world: World, parent: int) -> tuple[int, bool]:
        """Return the number of a state, and whether it is new."""
        known = self.numbers.get(world)
        if known is not None:
            return known, False
        number = self.numbers[world] = len(self.states)
        self.states.append(world)
        self.parents.append(parent)
        self.before.append([])
        return number, True

    def steps(self, number: int) -> tuple[list[str], World]:
        """Tell the way to a state, with every job and process under one number all the way."""
        path = []
        while number >= 0:
            path.append(self.states[number])
            number = self.parents[number]
        path.reverse()
        told, names = list[str](), Names()
        for here, there in pairwise(path):
            move = next(m for m in moves(here, self.rules) if canonical(m.to) == there)
            told.append(names.tell(move))
            names.follow(naming(move.to))
        return told, names.state(path[-1])


class Names:
    """What the jobs and processes of one state after another are called, when each keeps its first number."""

    def __init__(self) -> None:
        self._jobs = {NOBODY: NOBODY}
        self._processes = [0, 1]

    def tell(self, move: Move) -> str:
        """Return a move in words."""
        who = "" if move.process == NOBODY else f"process {self._processes[move.process]}: "
        return who + move.what.format(
            job=f"job {self._job(move.job)}", got=f"job {self._job(move.got)}"
        )

    def follow(self, canonical_names: Naming) -> None:
        """Take over the numbers of the next state."""
        self._jobs = {there: self._job(here) for here, there in canonical_names.job.items()}
        if canonical_names.swapped:
            self._processes.reverse()

    def state(self, world: World) -> World:
        """Return a state under these names."""
        identities_of = {NOBODY: NOBODY} | {number: number for number in identities(world)}
        return renamed(world, Naming(self._processes != [0, 1], self._jobs, identities_of))

    def _job(self, number: int) -> int:
        if number not in self._jobs:
            self._jobs[number] = max(self._jobs.values()) + 1
        return self._jobs[number]


def search(
    budget: Budget,
    rules: Rules,
    always: Sequence[Invariant],
    finally_: Sequence[Invariant],
    *,
    most: int = 1_000_000,
) -> tuple[int, Counterexample | None]:
    """Reach every state; returns how many there are, and the first counterexample.

    Args:
        budget: how many faults of each kind.
        rules: which sentences hold.
        always: what must hold in every state.
        finally_: what must come about from every state without another fault, all of it in one state.
        most: an error beyond so many states.

    Raises:
        RuntimeError: there are more states than `most`.
    """
    graph = Graph(rules)
    graph.number(canonical(first(budget)), -1)
    todo = deque([0])
    while todo:
        number = todo.popleft()
        for move in moves(graph.states[number], rules):
            after, new = graph.number(canonical(move.to), number)
            if not move.fault and after != number:
                graph.before[after].append(number)
            if not new:
                continue
            broken = next((check for check in always if not check(graph.states[after])), None)
            if broken is not None:
                return len(graph.states), Counterexample(_name(broken), *graph.steps(after))
            todo.append(after)
        if len(graph.states) > most:
            raise RuntimeError(f"more than {most} states: give the configuration a smaller budget")
    return len(graph.states), _stuck(graph, finally_)


def _stuck(graph: Graph, finally_: Sequence[Invariant]) -> Counterexample | None:
    """Find the first state from which no fault-free path comes to a good end."""
    good = [n for n, world in enumerate(graph.states) if all(check(world) for check in finally_)]
    reached = bytearray(len(graph.states))
    for number in good:
        reached[number] = 1
    while good:
        for number in graph.before[good.pop()]:
            if not reached[number]:
                reached[number] = 1
                good.append(number)
    stuck = reached.find(0)
    if stuck < 0 or not finally_:
        return None
    return Counterexample("no way to: " + _names(finally_), *graph.steps(stuck))


def _name(invariant: Invariant) -> str:
    return getattr(invariant, "__name__", repr(invariant))


def _names(invariants: Iterable[Invariant]) -> str:
    return ", ".join(map(_name, invariants))
