"""From built payloads to chunks for the store, past the client chain where there is one.

A middleware may change any field but `qik`, `jid` and `class`. What it changed is checked as strictly as what the application
gave; changed arguments are bound again and make another key. Jobs that it sent to other queues are grouped anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from qik_core import options, strict
from qik_core.definition import Built, Definition
from qik_core.errors import MalformedPayload, NotEnqueued, QikError
from qik_core.gate import Gate
from qik_core.middleware import ClientResult, Next
from qik_core.payload import Payload
from qik_core.results import Refused
from qik_core.store import MOST, Chunk, Origin
from qik_core.switches import Stop

_FIXED: Final = ("qik", "jid", "class")
_BY_JOB: Final = ("jids", "payloads", "digests", "delays", "due", "versions")


@dataclass(frozen=True, slots=True)
class Batch:
    """Built jobs of one definition, and when they are to run. The sequences are aligned."""

    definition: Definition
    built: Built
    origin: Origin
    delays: Sequence[float] | None
    due: Sequence[float] | None
    versions: Sequence[bytes] | None


@dataclass(frozen=True, slots=True)
class Parcel:
    """One chunk, and where its jobs stand in the batch."""

    places: Sequence[int]
    chunk: Chunk
    stop: Stop | None = None
    """Why these are to be held."""


@dataclass(frozen=True, slots=True)
class _Passed:
    """A job that the chain let through: what goes to Redis."""

    place: int
    queue: str
    raw: bytes
    digest: bytes | None


def whole(batch: Batch) -> list[Parcel]:
    """Return the parcels of a batch that no middleware looks at."""
    built, queue = batch.built, batch.definition.queue
    count = len(built.jids)
    if count <= MOST:  # as it is, without a copy
        chunk = _chunk(batch, queue, built, (batch.delays, batch.due, batch.versions))
        return [Parcel(range(count), chunk)] if count else []

    return [_cut(batch, start, min(start + MOST, count)) for start in range(0, count, MOST)]


def chained(chain: Next[ClientResult], batch: Batch) -> tuple[list[Parcel], dict[int, Refused]]:
    """Return the parcels of what the chain let through, and the refusals by place.

    Raises:
        NotEnqueued: a middleware failed, or made something that cannot travel; nothing of the batch was written.
    """
    refused: dict[int, Refused] = {}
    queues: dict[str, list[_Passed]] = {}
    for place, raw in enumerate(batch.built.payloads):
        try:
            answer = _pass(chain, batch, place, raw)
        except NotEnqueued as error:
            if len(batch.built.payloads) > 1:
                error.add_note(f"at item {place} of its batch")
            raise
        if isinstance(answer, Refused):
            refused[place] = answer
        else:
            queues.setdefault(answer.queue, []).append(answer)
    parcels = [
        _regrouped(batch, queue, passed[start : start + MOST])
        for queue, passed in queues.items()
        for start in range(0, len(passed), MOST)
    ]
    return parcels, refused


def gated(
    gate: Gate, definition: Definition, parcel: Parcel
) -> tuple[list[Parcel], dict[int, Refused]]:
    """Return what of a parcel the kill switches let through, what is to be held, and the refusals by place.

    A pass is refused what they stop, and so is everybody where a reconciler tells the class again.
    """
    chunk = parcel.chunk
    if not gate.concerns(definition.name, chunk.queue, definition.on_unknown):
        return [parcel], {}
    drops = chunk.origin is Origin.PASS or gate.is_reconciled(definition.name)
    refused: dict[int, Refused] = {}
    free: list[int] = []
    stopped: list[int] = []
    why = None
    for index, raw in enumerate(chunk.payloads):
        stop = gate.stop(Payload.decode(raw), chunk.queue)
        if stop is None:
            free.append(index)
        elif drops:
            refused[parcel.places[index]] = refusal(stop)
            gate.board.count(stop.flag, 1)
        else:
            why = stop
            stopped.append(index)
    parcels = [_part(parcel, free)] if free else []
    if why is not None:
        parcels.append(_part(parcel, stopped, definition.name, why))
    return parcels, refused


def refusal(stop: Stop, reason: str = "") -> Refused:
    """Return what a push answers that a kill switch has stopped."""
    return Refused(f"switch {stop.flag}", reason or stop.reason)


def _part(
    parcel: Parcel, indices: Sequence[int], held: str = "", stop: Stop | None = None
) -> Parcel:
    """Return some jobs of a parcel; `held` is their class if they are to be held."""
    picked: dict[str, Any] = {"held": held}
    for name in _BY_JOB:
        values = getattr(parcel.chunk, name)
        picked[name] = None if values is None else [values[index] for index in indices]
    chunk = replace(parcel.chunk, **picked)
    return Parcel([parcel.places[index] for index in indices], chunk, stop)


def _pass(chain: Next[ClientResult], batch: Batch, place: int, raw: bytes) -> _Passed | Refused:
    before = Payload.decode(raw)
    digest = batch.built.digests[place] if batch.built.digests is not None else None
    after = chain(before)
    if isinstance(after, Refused):
        return after
    # Compared with a fresh reading, since a middleware may have changed `fields` in place.
    if after.fields == Payload.decode(raw).fields:
        return _Passed(place, batch.definition.queue, raw, digest)
    try:
        return _changed(batch.definition, Payload.decode(raw), after, place)
    except QikError as error:
        raise NotEnqueued(
            f"{batch.definition.name}, as the client middleware changed it: {error}"
        ) from error


def _changed(definition: Definition, before: Payload, after: Payload, place: int) -> _Passed:
    fields = dict(after.fields)
    for name in _FIXED:
        if fields.get(name) != before[name]:
            raise MalformedPayload(f"`{name}` must stay {before[name]!r:.80}")
    queue = options.queue(fields.get("queue"), definition.name)
    strict.check(fields, "payload", strict.DEPTH + 2)
    digest = None
    if fields.get("args") != before.args:
        fields["args"] = _rebound(definition, fields.get("args"))
    if definition.unique is not None:
        digest = definition.digest(fields["args"])
        fields["qik"] = (digest + definition.unique.mark).decode()
    raw = Payload(fields).encode()
    if len(raw) > strict.limit():
        raise strict.too_large("payload", len(raw))
    return _Passed(place, queue, raw, digest)


def _rebound(definition: Definition, args: Any) -> list[Any]:
    if type(args) is not list:
        raise MalformedPayload("`args` must be a list")
    return list(definition.arguments.dump_rows([definition.arguments.load(args)])[0])


def _cut(batch: Batch, start: int, end: int) -> Parcel:
    def cut(values: Any) -> Any:
        return None if values is None else values[start:end]

    times = cut(batch.delays), cut(batch.due), cut(batch.versions)
    chunk = _chunk(batch, batch.definition.queue, Built(*map(cut, batch.built)), times)
    return Parcel(range(start, end), chunk)


def _regrouped(batch: Batch, queue: str, passed: Sequence[_Passed]) -> Parcel:
    places = [each.place for each in passed]
    jids = [batch.built.jids[place] for place in places]
    digests = [each.digest for each in passed if each.digest is not None]
    built = Built(jids, [each.raw for each in passed], digests or None)

    def pick(values: Any) -> Any:
        return None if values is None else [values[place] for place in places]

    times = pick(batch.delays), pick(batch.due), pick(batch.versions)
    return Parcel(places, _chunk(batch, queue, built, times))


def _chunk(batch: Batch, queue: str, built: Built, times: tuple[Any, Any, Any]) -> Chunk:
    """Return the chunk of some jobs of a batch; `times`: their delays, due times and versions."""
    unique = batch.definition.unique
    delays, due, versions = times
    return Chunk(
        queue=queue,
        jids=built.jids,
        payloads=built.payloads,
        digests=built.digests,
        seconds=unique.seconds if unique else 0,
        until=unique.until if unique else "success",
        origin=batch.origin,
        delays=delays,
        due=due,
        versions=versions,
    )
