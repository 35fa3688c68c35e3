"""What the kill switches mean for a pass: all of its rows stay in SQL, or some of them, and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from time import time
from typing import Any, Final

from qik_core.passes import Passes
from qik_core.switches import (
    Context,
    Field,
    Snapshot,
    Stop,
    flag_of_class,
    flag_of_reconciler,
    key_text,
)
from reconciler.definition import Definition
from reconciler.rows import Args, Batch

_IN_ARGUMENTS: Final = {Field.TENANT, Field.KEY}


class Stops:
    """The switches of one process, as its passes ask them: from memory. `now` gives epoch seconds. Thread-safe."""

    def __init__(self, seam: Passes, now: Callable[[], float] = time) -> None:
        self._seam = seam
        self._now = now

    def whole(self, definition: Definition) -> Stop | None:
        """Say whether, and why, a reconciler tells nothing at all now."""
        snapshot = self._seam.switches()
        return _doubt(snapshot, definition) or snapshot.stop(
            definition.facts.name,
            _queue(definition),
            context=Context(reconciler=definition.name),
            now=self._now(),
        )

    def rows(self, definition: Definition, found: Batch) -> list[Stop | None]:
        """Say for each row whether, and why, it is not told now: always the same rows while a switch says the same."""
        snapshot, now = self._seam.switches(), self._now()
        if not snapshot.about(definition.facts.name, _queue(definition), definition.name):
            return [None] * len(found)
        at = definition.shape.tenant_at
        return [
            stop_of(
                snapshot,
                definition,
                digest.decode(),
                args,
                None if at is None else row[at],
                now=now,
            )
            for row, args, digest in zip(found.rows, found.args, found.digests, strict=True)
        ]


def stop_of(
    snapshot: Snapshot,
    definition: Definition,
    digest: str,
    args: Args | None,
    tenant: Any,
    *,
    now: float,
) -> Stop | None:
    """Say whether, and why, one row is not told under these switches; `args` and `tenant` are None where not known."""
    name, queue = definition.facts.name, _queue(definition)
    rules = snapshot.about(name, queue, definition.name)
    asked = {each.field for _, rule in rules for each in rule.where}
    of_args, key = _of_args(definition, args) if asked & _IN_ARGUMENTS else (None, None)
    whose = of_args if tenant is None else str(tenant)
    context = Context(tenant=whose, key=key, reconciler=definition.name)
    return _doubt(snapshot, definition) or snapshot.stop(name, queue, digest, context, now=now)


class Off:
    """What the switches have kept back in one pass."""

    def __init__(self, definition: Definition, stops: Stops) -> None:
        self._definition = definition
        self._stops = stops
        self._stop: Stop | None = None
        self._rows = 0

    def part(self, found: Batch) -> tuple[list[int], list[int]]:
        """Return where the rows are that are not told now, and where the others."""
        whole = self._stops.whole(self._definition)
        said = [whole] * len(found) if whole else self._stops.rows(self._definition, found)
        if not any(said):
            return [], list(range(len(found)))
        kept = [at for at, each in enumerate(said) if each is not None]
        self._stop = said[kept[-1]]
        self._rows += len(kept)
        return kept, [at for at, each in enumerate(said) if each is None]

    @property
    def reason(self) -> str:
        """Why rows stay in SQL; empty while none does, and nothing is switched off."""
        stop = self._stop or self._stops.whole(self._definition)
        if stop is None:
            return ""
        return f"{why(stop)}; {self._rows:,} rows stay in SQL" if self._rows else why(stop)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values, for the ledger."""
        stop = self._stop or self._stops.whole(self._definition)
        shown = (
            {}
            if stop is None
            else {"flag": stop.flag, "source": stop.source, "reason": stop.reason}
        )
        return {**shown, "rows": self._rows}


OFF: Final = "switched off by "
"""How the reason of a pass begins that a switch has kept back."""


def why(stop: Stop) -> str:
    """Return a stop for people."""
    return f"{OFF}{stop.flag} ({stop.source}){f': {stop.reason}' if stop.reason else ''}"


def _doubt(snapshot: Snapshot, definition: Definition) -> Stop | None:
    own = snapshot.doubt(flag_of_reconciler(definition.name), definition.on_unknown)
    return own or snapshot.doubt(
        flag_of_class(definition.facts.name), definition.job.definition.on_unknown
    )


def _queue(definition: Definition) -> str:
    return definition.queue or definition.facts.queue


def _of_args(definition: Definition, args: Args | None) -> tuple[str | None, str | None]:
    """Return the tenant and the key of a row's job as conditions name them: by its arguments, as a push knows it."""
    if args is None:
        return None, None
    job = definition.job.definition
    (written,) = job.arguments.dump_rows([args])
    key = key_text(json.loads(job.arguments.keys([written])[0]))
    return None if job.tenant is None else key_text([written[job.tenant]]), key
