"""Which rows of a pass may be told: not those that are held back, too late, or beyond their tenant's share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from qik_core.passes import Passes
from qik_core.rows import Asked, Standing
from reconciler.definition import Definition
from reconciler.drift import Loss, causes
from reconciler.fair import Shares
from reconciler.gauges import moment
from reconciler.ledger import Ledger
from reconciler.quarantine import RowStates
from reconciler.recheck import Recheck
from reconciler.report import GONE, LATE, OVER_SHARE
from reconciler.rows import Batch
from reconciler.source import due_in

_ASKED: Final = 250


class Tools(Protocol):
    """What is asked of a process's tools."""

    @property
    def seam(self) -> Passes:
        """Redis."""

    @property
    def ledger(self) -> Ledger:
        """The passes before."""

    @property
    def states(self) -> RowStates:
        """What is remembered of rows."""

    @property
    def recheck(self) -> Recheck:
        """What looks at rows by their keys."""


class Choice:
    """The choice of one pass. `codes` counts what is left out; `now` returns the database's time in epoch seconds."""

    def __init__(
        self,
        definition: Definition,
        tools: Tools,
        codes: Counter[str],
        now: Callable[[], float],
    ) -> None:
        self._definition = definition
        self._tools = tools
        self._codes = codes
        self._now = now
        fair = definition.fair
        self._shares = None if fair is None else Shares(definition.shape, fair)
        self._loss: Loss | None = None
        self._life = ""

    def of(self, found: Batch) -> Batch:
        """Return the rows of a page that may be told, with the seconds until each is due where rows say so."""
        return self._in_share(self._in_time(self._free(found)))

    def still(self, new: Batch, of: int) -> Batch:
        """Return those of the untold rows of a page of so many that want a job still.

        A job may have ended since its row was read. It left a record in the step in which its lock went, so what is drained
        now has it; if it ended well its row matches no more. Where nearly all rows are new, asking for each would cost more
        than to push a job that is skipped when its row is looked at.
        """
        self._tools.states.drain()
        few = self._definition.edges or 2 * len(new) < of
        if few:
            self._tools.states.refresh(self._definition)
        new = self._free(new)
        return self._pending(new) if few else new

    def causes(self, told: Batch, life: str) -> Counter[str]:
        """Return why these rows, told just now, had no job. `life` is the loss id of the Redis that they were told to."""
        if life != self._life:
            self._loss, self._life = self._tools.ledger.loss(self._definition, life), life
        at = self._definition.shape.age_at
        ages = None if at is None else [moment(row[at]) for row in told.rows]
        reasons = self._tools.states.reasons(self._definition, told.digests)
        orphans = self._tools.seam.orphans(told.digests, forget=True)
        return Counter(each.value for each in causes(reasons, orphans, ages, self._loss))

    def _free(self, found: Batch) -> Batch:
        held = self._tools.states.filter(self._definition, found.digests, found.tags)
        if not any(held):
            return found
        self._codes.update(each.code.value for each in held if each is not None)
        return found.pick([at for at, each in enumerate(held) if each is None])

    def _pending(self, found: Batch) -> Batch:
        name = self._definition.facts.name
        asked = {
            at: Asked(name, tuple(args), digest.decode())
            for at, (args, digest) in enumerate(zip(found.args, found.digests, strict=True))
            if found.due is None or found.due[at] <= 0  # what is due later does not match yet
        }
        gone: set[int] = set()
        for start in range(0, len(asked), _ASKED):
            places = list(asked)[start : start + _ASKED]
            standings = self._tools.recheck.look([asked[at] for at in places])
            said = zip(places, standings, strict=True)
            gone.update(at for at, standing in said if standing is Standing.GONE)
        if gone:
            self._codes[GONE] += len(gone)
        return found.pick([at for at in range(len(found)) if at not in gone])

    def _in_time(self, found: Batch) -> Batch:
        shape = self._definition.shape
        if shape.run_at is None:
            return found
        now = self._now()
        due = [due_in(shape, row, now) for row in found.rows]
        places = [at for at, each in enumerate(due) if each is not None]
        if len(places) < len(due):
            self._codes[LATE] += len(due) - len(places)
        return replace(found.pick(places), due=[each for each in due if each is not None])

    def _in_share(self, found: Batch) -> Batch:
        if self._shares is None:
            return found
        places = self._shares.admit(found.rows)
        if len(places) < len(found):
            self._codes[OVER_SHARE] += len(found) - len(places)
        return found.pick(places)
