"""Records of ended jobs, as the engine's scripts write them, and a clock that stands."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from sqlalchemy import Engine, select

from qik_core.store.ended import ANY_VERSION, EndedKind, note
from reconciler.definition import Definition
from reconciler.tables import row_state

_moments: Iterator[int] = count(1_700_000_000)


def end(
    raw: Any,
    definition: Definition,
    args: tuple[Any, ...],
    kind: EndedKind = EndedKind.DIED,
    *,
    version: str = ANY_VERSION,
    error: str = "ValueError: bad",
    jid: str = "",
) -> bytes:
    """Have the job of a row end; returns its key."""
    job = definition.job.definition
    digest: bytes = job.digests([args])[0]
    wire = job.arguments.dump(args, {})
    push(
        raw,
        job.name,
        digest.decode(),
        list(wire),
        kind=kind,
        version=version,
        error=error,
        jid=jid,
    )
    return digest


def push(
    raw: Any,
    name: str,
    digest: str,
    args: list[Any],
    *,
    kind: EndedKind = EndedKind.DIED,
    version: str = ANY_VERSION,
    error: str = "",
    jid: str = "",
) -> None:
    """Write one record."""
    at = next(_moments)
    told, _, rest = note(kind, name, digest, args, jid=jid or f"jid{at}", error=error).partition(
        b" "
    )
    raw.lpush("qik:ended", b"%s %d.000000 %s %s" % (told, at, version.encode(), rest))


def stored(home: Engine) -> dict[str, Any]:
    """Return all that is remembered, by key."""
    with home.connect() as connection:
        rows = connection.execute(select(row_state).where(row_state.c.job_class != "#"))
        return {row.key: row for row in rows}


def digests(definition: Definition, *ids: int) -> list[bytes]:
    """Return the keys of items."""
    found: list[bytes] = definition.job.definition.digests([(each,) for each in ids])
    return found


class Clock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now
