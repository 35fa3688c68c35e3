"""Which shards there are: the application is asked at the start and again once a minute, on a thread of its own.

An answer that does not come, or makes no sense, changes nothing: the shards that were there go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from reconciler.definition import Definition
from reconciler.engines import RELOAD, Engines
from reconciler.options import Shards
from reconciler.periodic import Periodic

log: Final = logging.getLogger("reconciler")

_AGAIN: Final = 5.0
"""Seconds until the application is asked again after it could not say."""

Units = Mapping[str, Definition]


class Sharding:
    """Keeps the units of those reconcilers that read one set of shards; `changed` hears of them when they differ."""

    def __init__(
        self,
        definitions: Sequence[Definition],
        engines: Engines,
        changed: Callable[[Sequence[Definition], Units], None],
    ) -> None:
        self._definitions = definitions
        self._engines = engines
        self._changed = changed
        self._known: list[str] | None = None
        self._well = False
        self.thread = Periodic("shards", lambda: RELOAD if self._well else _AGAIN, self.once)

    def once(self) -> None:
        """Ask; tell who wants to know what is different. Raises SettingsError."""
        self._well = False
        shards = self._engines.reload(self._definitions[0])
        self._well = True
        if shards == self._known:
            return
        if not shards:
            names = ",".join(each.name for each in self._definitions)
            log.warning("there are no shards", extra={"reconciler": names})
        self._known = shards
        parts = (each.in_shard(shard) for each in self._definitions for shard in shards)
        self._changed(self._definitions, {each.unit: each for each in parts})


def by_shards(definitions: Iterable[Definition]) -> list[list[Definition]]:
    """Return the reconcilers with shards, those that read the same ones together: they are asked for once."""
    found: dict[Shards, list[Definition]] = {}
    for each in definitions:
        if each.shards is not None:
            found.setdefault(each.shards, []).append(each)
    return list(found.values())
