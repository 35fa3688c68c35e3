"""Held jobs: of a class that a kill switch has stopped and that no reconciler tells again. They come back by themselves."""

from __future__ import annotations

from collections.abc import Iterator

from qik_core.api.record import JobRecord, Location, State
from qik_core.api.sets import JobSet, Where
from qik_core.client import current as current_client
from qik_core.store import Store, held


class HeldList(JobSet):
    """Held jobs of one class: those that were found on queues, or those that were `pushed` while it was switched off.

    The first ones are released first. Releasing is for the switch: delete what must not come back.
    """

    def __init__(self, name: str, store: Store | None = None, *, pushed: bool = False) -> None:
        self.name = name
        super().__init__(Location(State.HELD, held.lists(name)[pushed]), store)

    @classmethod
    def all(cls, store: Store | None = None) -> list[HeldList]:
        """Return both lists of every class of which something is held, in the order in which they are released."""
        store = store or current_client().store
        return [
            cls(name, store, pushed=pushed)
            for name in held.names(store.links.call)
            for pushed in (False, True)
        ]

    @classmethod
    def matching_all(cls, where: Where = "", store: Store | None = None) -> Iterator[JobRecord]:
        """Yield the held jobs of all classes that a filter means.

        Raises:
            FilterError: it cannot be read.
        """
        for each in cls.all(store):
            yield from each.matching(where)
