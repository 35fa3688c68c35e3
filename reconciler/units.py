"""The units of reconcilers, which are run and asked one by one: a reconciler, or one shard of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qik_core.errors import SettingsError
from reconciler.definition import Definition
from reconciler.engines import Engines


def units(
    definitions: Iterable[Definition], engines: Engines, most: int | None = None
) -> Iterator[Definition]:
    """Yield the units; of a reconciler with shards the first `most`.

    One whose application cannot say which shards there are is yielded as it is: whoever asks for its engine is told why.
    """
    for each in definitions:
        try:
            shards = engines.shards(each)
        except SettingsError:
            shards = []
        yield from map(each.in_shard, shards[:most]) if shards and not each.shard else [each]


def place_of(definition: Definition) -> str:
    """Return what the database of its rows is called: its name in the settings, or the unit for one of a shard."""
    return definition.database if definition.shards is None else definition.unit
