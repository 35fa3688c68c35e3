"""The load of the drill's own service: rows of whatever shape a fault needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from reconciler.drill import service
from reconciler.drill.evidence import Edges, Effects
from reconciler.drill.load import Shape, counted
from reconciler.engines import Engines

_STEADY: Final = 1_000_000
"""The ids of the steady load begin here, those of the faults below."""
_USUAL: Final = 0.06
_LONG: Final = 3.0
_SOON: Final = 4.0
_UNTOLD: Final = 4
"""Every so manyth row of the steady load has no edge: a pass has to find it."""


class OwnLoad:
    """Rows of the service in `service.py`."""

    def __init__(self, engines: Engines) -> None:
        self.edges = Edges()
        self._home = engines.home()
        self._next = {False: 1, True: _STEADY}

    def burst(self, shape: Shape, count: int) -> Sequence[int]:
        """Add rows of this shape."""
        ids = self._ids(count, steady=False)
        seconds = _LONG if shape is Shape.LONG else _USUAL
        service.add(self._home, ids, seconds=seconds, failures=int(shape is Shape.FAILING))
        if shape is Shape.SCHEDULED:
            self._push(ids, at=_SOON)
        elif shape is not Shape.UNTOLD:
            self._push(ids)
        return ids

    def push_again(self, ids: Sequence[int]) -> None:
        """Push edges for these rows."""
        self._push(ids)

    def steady(self, count: int) -> None:
        """Add rows; every fourth of them has no edge."""
        ids = self._ids(count, steady=True)
        service.add(self._home, ids, seconds=_USUAL)
        self._push([each for each in ids if each % _UNTOLD])

    def effects(self) -> Effects | None:
        """Return what has become of the rows."""
        return service.effects(self._home)

    def prepare(self) -> None:
        """Make its tables anew."""
        service.prepare(self._home)

    def remove(self) -> None:
        """Remove its tables."""
        service.remove(self._home)

    def _ids(self, count: int, *, steady: bool) -> range:
        first = self._next[steady]
        self._next[steady] += count
        return range(first, first + count)

    def _push(self, ids: Sequence[int], at: float = 0.0) -> None:
        rows = [(each,) for each in ids]
        job = service.DrillWork.set(wait=at) if at else service.DrillWork
        self.edges = counted(self.edges, len(rows), lambda: job.perform_bulk(rows))
