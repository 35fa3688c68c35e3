"""Which rows are pending, by the keys of their jobs: read whole, as passes read them, each time it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import select

from qik_core.passes import Passes
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.occurrences import source_of
from reconciler.rows import Batch, batch, key_of
from reconciler.source import Position
from reconciler.sql import read_clock, reading
from reconciler.tables import row_state
from reconciler.units import units

_PAGE: Final = 1_000
_ASK: Final = 10.0


class Rows:
    """The rows of these reconcilers; the young ones, and those beyond a tenant's share, among them."""

    def __init__(self, definitions: Sequence[Definition], engines: Engines, seam: Passes) -> None:
        self.definitions = definitions
        self.engines = engines
        self.seam = seam

    def units(self) -> list[Definition]:
        """Return the reconcilers, each shard by itself."""
        return list(units(self.definitions, self.engines))

    def pending(self) -> dict[str, str]:
        """Return the pending rows: the key of each row's job, and what to call the row.

        Raises:
            SqlUnavailable: a database cannot be reached.
        """
        found: dict[str, str] = {}
        for unit in self.units():
            for page in self._pages(unit):
                for row, digest in zip(page.rows, page.digests, strict=True):
                    key = " ".join(map(str, key_of(unit, row)))
                    found[digest.decode()] = f"{unit.facts.name} {key}"
        return found

    def told(self, keys: Sequence[str]) -> set[str]:
        """Return those of these keys that have a lock. Raises StoreError."""
        digests = [key.encode() for key in keys]
        said = self.seam.glance(digests)
        return {key for key, told in zip(keys, said, strict=True) if told}

    def held_back(self) -> set[str]:
        """Return the keys of rows that are held back because their jobs do not end well.

        Raises:
            SqlUnavailable: the database cannot be reached.
        """
        with reading(self.engines.home(), _ASK) as connection:
            return set(connection.execute(select(row_state.c.key_digest)).scalars())

    def _pages(self, unit: Definition) -> Iterator[Batch]:
        whole = replace(unit, min_age=0.0, fair=None)
        engine = self.engines.of(unit)
        source = source_of(whole, engine, read_clock(engine), held=0, told=self.seam.glance)
        after: Position | None = None
        while True:
            rows: Sequence[Any] = source.read(after, _PAGE)
            yield batch(unit, rows)[0]
            if len(rows) < _PAGE:
                return
            after = source.position(rows[-1])
