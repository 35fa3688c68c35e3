"""Where every job is, and what stands in its way: the oracle of the enumerations. For a server at rest."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from qik_core.payload import Payload
from qik_core.store.ended import EndedKind, parse

_ENDED = "dead"
_UNIQUE = re.compile(r"([\w-]{22})([ST])(\d+)")


@dataclass
class Lock:
    """A lock as it stands in one generation."""

    key: str
    state: str
    jid: str


@dataclass
class Places:
    """Everything at one moment. A place is the name of a key; a job is known by its jid."""

    jobs: dict[str, list[str]] = field(default_factory=dict)
    payloads: dict[str, bytes] = field(default_factory=dict)
    locks: list[Lock] = field(default_factory=list)
    ours: dict[str, int] = field(default_factory=dict)
    """How many payloads with our header each list and sorted set has."""
    counted: dict[str, int] = field(default_factory=dict)
    """What the conservation counts say of them."""
    records: list[str] = field(default_factory=list)
    """The jids of jobs that are recorded as ended."""

    def of(self, jid: str) -> list[str]:
        """Return where a job is."""
        return self.jobs.get(jid, [])

    def wrong(self, *, present: Collection[str] = (), orphans: bool = False) -> list[str]:
        """Say what must not be: a job in two places or, of those that must be there, in none; a job without its lock,
        and unless `orphans` of a deletion by hand are allowed a lock without its job; a count that does not count."""
        return [
            *(f"{jid} is nowhere" for jid in present if jid not in self.jobs),
            *(f"{jid} is in {where}" for jid, where in self.jobs.items() if len(where) > 1),
            *self._unlocked(),
            *([] if orphans else self._orphaned()),
            *self._miscounted(deletions=orphans),
            *self._recorded(),
        ]

    def unrecorded(self, noted: Collection[str]) -> list[str]:
        """Say which of the jobs that leave a record have ended without one."""
        ended = [jid for jid in noted if set(self.of(jid)) <= {_ENDED}]
        return [f"{jid} has ended without a record" for jid in ended if jid not in self.records]

    def _recorded(self) -> Iterator[str]:
        for jid in set(self.records):
            if self.records.count(jid) > 1:
                yield f"{jid} has {self.records.count(jid)} records"
            if not set(self.of(jid)) <= {_ENDED}:
                yield f"{jid} is recorded as ended and is in {self.of(jid)}"

    def _miscounted(self, *, deletions: bool) -> Iterator[str]:
        for key, n in self.counted.items():
            there = self.ours.get(key, 0)
            if n != there and not (deletions and n > there):
                yield f"{key} has {there} jobs, counted are {n}"

    def _unlocked(self) -> Iterator[str]:
        held = {lock.jid for lock in self.locks}
        for jid, where in self.jobs.items():
            unique = _UNIQUE.fullmatch(str(Payload.decode(self.payloads[jid]).unique or "-"))
            holds = (
                unique is not None and unique[2] == "S"
            )  # T: free as soon as it was fetched once
            if holds and where[0] != _ENDED and jid not in held:
                yield f"{jid} in {where[0]} has no lock"

    def _orphaned(self) -> Iterator[str]:
        for lock in self.locks:
            if set(self.of(lock.jid)) <= {_ENDED}:
                yield f"lock {lock} has no job"


def _is_fetched(key: str) -> bool:
    return key.startswith(("qik:working:", "qik:recovering:"))


def look(raw: Any) -> Places:
    """Read everything."""
    places = Places()
    for name in sorted(raw.scan_iter(count=1000)):
        key = name.decode()
        if key.startswith("qik:unique:"):
            places.locks += [
                Lock(digest.decode(), record[:1].decode(), record[18:].split(b"|")[0].decode())
                for digest, record in raw.hgetall(key).items()
                if digest != b"#"
            ]
        elif key == "qik:ended":
            ended = [parse(record) for record in raw.lrange(key, 0, -1)]
            places.records = [each.jid for each in ended if each.kind is not EndedKind.RETRIED]
        elif key.startswith("qik:n:"):
            places.counted[key[6:]] = int(raw.get(key))
        else:
            for payload in _payloads(raw, key):
                _add(places, key, payload)
    return places


def _payloads(raw: Any, key: str) -> list[bytes]:
    if key.startswith(("queue:", "qik:suspect:", "qik:held:")):
        return list(raw.lrange(key, 0, -1))
    if key in ("schedule", "retry", "dead") or key.startswith("qik:later:"):
        return list(raw.zrange(key, 0, -1))
    if _is_fetched(key):
        return [value for name, value in raw.hgetall(key).items() if name not in (b"#", b"@")]
    return []


def _add(places: Places, key: str, payload: bytes) -> None:
    jid = Payload.decode(payload).jid
    places.jobs.setdefault(jid, []).append(key)
    places.payloads[jid] = payload
    if payload.startswith(b'{"qik":"'):
        places.ours[key] = places.ours.get(key, 0) + 1
