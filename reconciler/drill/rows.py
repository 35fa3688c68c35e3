"""Which rows are pending, by the keys of their jobs, and which of them passes leave out on purpose.

Both are read whole, as passes read them, each time they are asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from qik_core import settings
from qik_core.passes import Passes
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.fair import Shares
from reconciler.occurrences import source_of
from reconciler.quarantine import RowStates
from reconciler.report import LATE, OVER_SHARE, SHADOW
from reconciler.rows import Batch, batch, key_of
from reconciler.source import Position, due_in
from reconciler.sql import read_clock
from reconciler.states import Hold
from reconciler.switches.stopping import Stops
from reconciler.units import units

SWITCHED_OFF: Final = "switched_off"
FOR_GOOD: Final = frozenset({SHADOW, LATE, SWITCHED_OFF, Hold.QUARANTINED.value})
"""Why passes leave a row out for longer than any drill lasts."""
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Pending:
    """A pending row."""

    name: str
    """What to call it."""
    within: float
    """Seconds within which a pass begins that tells it: its reconciler's min_age and every."""


class Rows:
    """The rows of these reconcilers; the young ones, and those beyond a tenant's share, among them."""

    def __init__(self, definitions: Sequence[Definition], engines: Engines, seam: Passes) -> None:
        self.definitions = definitions
        self.engines = engines
        self.seam = seam
        self._stops = Stops(seam)
        self._made: RowStates | None = None

    def units(self) -> list[Definition]:
        """Return the reconcilers, each shard by itself."""
        return list(units(self.definitions, self.engines))

    def pending(self) -> dict[str, Pending]:
        """Return the pending rows by the keys of their jobs.

        Raises:
            SqlUnavailable: a database cannot be reached.
        """
        found: dict[str, Pending] = {}
        for unit in self.units():
            within = unit.min_age + unit.every
            for page in self._pages(replace(unit, min_age=0.0)):
                for row, digest in zip(page.rows, page.digests, strict=True):
                    key = " ".join(map(str, key_of(unit, row)))
                    found[digest.decode()] = Pending(f"{unit.facts.name} {key}", within)
        return found

    def told(self, keys: Sequence[str]) -> set[str]:
        """Return those of these keys that have a lock. Raises StoreError."""
        digests = [key.encode() for key in keys]
        said = self.seam.glance(digests)
        return {key for key, told in zip(keys, said, strict=True) if told}

    def held(self) -> dict[str, str]:
        """Return why passes leave rows out now, by the keys of their jobs, mostly in the words of the ledger.

        A row that another reconciler tells is not among them, and none that is too young only: its time comes.

        Raises:
            SqlUnavailable, NotMigrated: see there.
        """
        found = self.units()
        if not any(self._may_hold(unit) for unit in found):
            return {}
        held: dict[str, str] = {}
        free: set[str] = set()
        for unit in found:
            for key, why in self._reasons(unit):
                if why:
                    held[key] = why
                else:
                    free.add(key)
        return {key: why for key, why in held.items() if key not in free}

    def _may_hold(self, unit: Definition) -> bool:
        special = unit.shadow or unit.fair is not None or unit.shape.run_at is not None
        queue = unit.queue or unit.facts.queue
        off = self.seam.switches().about(unit.facts.name, queue, unit.name)
        return special or bool(off) or any(self._states.counts(unit).values())

    def _reasons(self, unit: Definition) -> Iterator[tuple[str, str]]:
        """Yield each row that is old enough, and why a pass leaves it out, as `choice` does; empty for one that it may tell."""
        shares = None if unit.fair is None else Shares(unit.shape, unit.fair)
        now = read_clock(self.engines.of(unit))
        for page in self._pages(replace(unit, min_age=0.0) if unit.shadow else unit):
            states = self._states.glance(unit, page.digests, page.tags)
            reasons = ["" if each is None else each.code.value for each in states]
            stops = self._stops.rows(unit, page)
            for at, row in enumerate(page.rows):
                if not reasons[at] and due_in(unit.shape, row, now) is None:
                    reasons[at] = LATE
                if not reasons[at] and shares is not None and not shares.admit([row]):
                    reasons[at] = OVER_SHARE
                if not reasons[at] and stops[at] is not None:
                    reasons[at] = SWITCHED_OFF
            for digest, why in zip(page.digests, reasons, strict=True):
                yield digest.decode(), why or (SHADOW if unit.shadow else "")

    @property
    def _states(self) -> RowStates:
        if self._made is None:
            release = settings.current().release or ""
            self._made = RowStates(self.engines.home(), self.seam, release)
        return self._made

    def _pages(self, unit: Definition) -> Iterator[Batch]:
        """Yield all rows, in the order of the reconciler: its ranks would leave some out."""
        whole = replace(unit, fair=None)
        engine = self.engines.of(unit)
        source = source_of(whole, engine, read_clock(engine), held=0, told=self.seam.glance)
        after: Position | None = None
        while True:
            rows: Sequence[Any] = source.read(after, _PAGE)
            yield batch(unit, rows)[0]
            if len(rows) < _PAGE:
                return
            after = source.position(rows[-1])
