"""The rows of a drill: those of its own service, of whatever shape a fault needs, or those of an application of one's own.

An application may have a function `drill_rows(count)`, which adds so many pending rows and pushes their edges. Without
one, the rows that are pending are the load.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Final, Protocol

from qik_core.errors import OutcomeUnknown, StoreError
from reconciler.drill.errors import HookFailed
from reconciler.drill.evidence import Edges, Effects
from reconciler.engines import Engines

OWN: Final = "reconciler.drill.service"
"""The application that is drilled when none is named."""
HOOK: Final = "drill_rows"


class Shape(StrEnum):
    """What the rows of a burst are like."""

    PLAIN = "plain"
    LONG = "long"  # their jobs run for seconds
    FAILING = "failing"  # their jobs fail the first time
    SCHEDULED = "scheduled"  # pushed for later
    UNTOLD = "untold"  # no edge


class Load(Protocol):
    """Where rows come from."""

    def burst(self, shape: Shape, count: int) -> Sequence[int]:
        """Add rows for a fault; returns the ids of those it knows."""

    def push_again(self, ids: Sequence[int]) -> None:
        """Push edges for rows that have a job, as far as they are known."""

    def steady(self, count: int) -> None:
        """Add rows of the steady load, and push the edges of most."""

    def effects(self) -> Effects | None:
        """Return what the rows say of their jobs' effects; None where nobody can know."""

    def prepare(self) -> None:
        """Make what it needs, before any process starts."""

    def remove(self) -> None:
        """Remove what it has made."""

    edges: Edges
    """What its pushes were answered so far."""


class AppLoad:
    """An application of one's own, with or without a function that adds rows."""

    def __init__(self, app: str) -> None:
        self.edges = Edges()
        module = sys.modules[app.partition(":")[0]]
        self.hook: Callable[[int], object] | None = getattr(module, HOOK, None)

    def burst(self, shape: Shape, count: int) -> Sequence[int]:  # noqa: ARG002 - its rows are as they are
        """Add rows, whatever they are like."""
        self.steady(count)
        return ()

    def push_again(self, ids: Sequence[int]) -> None:
        """Nothing is known of its rows."""

    def steady(self, count: int) -> None:
        """Have the application add rows.

        Raises:
            HookFailed: it raised.
        """
        if self.hook is None:
            return
        hook = self.hook
        try:
            self.edges = counted(self.edges, count, lambda: hook(count))
        except Exception as error:
            raise HookFailed(f"{HOOK}({count}) raised {type(error).__name__}: {error}") from error

    def effects(self) -> Effects | None:
        """Nobody here knows what its jobs do."""
        return None

    def prepare(self) -> None:
        """Its tables are there."""

    def remove(self) -> None:
        """Its rows are its own affair."""


def load_of(app: str, engines: Engines) -> Load:
    """Return the load of an application that is imported."""
    if app != OWN:
        return AppLoad(app)
    from reconciler.drill.own import OwnLoad  # which defines a job and a reconciler

    return OwnLoad(engines)


def counted(edges: Edges, count: int, push: Callable[[], object]) -> Edges:
    """Push, and count what came of it: a Redis that is full or away refuses, which is what passes are for."""
    try:
        push()
    except OutcomeUnknown:
        return replace(edges, unknown=edges.unknown + count)
    except StoreError:
        return replace(edges, refused=edges.refused + count)
    return replace(edges, told=edges.told + count)
