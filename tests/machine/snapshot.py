"""Everything that Redis holds at one moment, as the promises speak of it: copies of jobs, and locks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from qik_core.payload import header
from qik_core.store import keys
from qik_core.store.epoch import Epoch

SNAPSHOT: Final = b"""
local read = {
  list = function(key) return redis.call("LRANGE", key, 0, -1) end,
  hash = function(key) return redis.call("HGETALL", key) end,
  zset = function(key) return redis.call("ZRANGE", key, 0, -1, "WITHSCORES") end,
  set = function(key) return redis.call("SMEMBERS", key) end,
  string = function(key) return redis.call("GET", key) end,
}
local all = {}
for i, key in ipairs(redis.call("KEYS", "*")) do
  all[i] = {key, read[redis.call("TYPE", key).ok](key)}
end
return all
"""
DEAD: Final = "dead"
_LISTS: Final = (keys.queue(""), keys.suspect(""))
_ZSETS: Final = (keys.SCHEDULE, keys.RETRY, keys.DEAD, keys.later(""))
_HASHES: Final = (keys.WORKING_PREFIX, keys.RECOVERING_PREFIX)
_MARKS: Final = (b"#", b"@")


class Copy(NamedTuple):
    """A job where it is."""

    place: str
    """The key that holds it."""
    jid: str
    digest: str
    """Empty for a job without a lock."""
    exclusive: bool
    """Its lock lasts until success."""
    field: bytes = b""

    @property
    def unfinished(self) -> bool:
        return self.place != DEAD

    @property
    def fetched(self) -> bool:
        return self.field != b""


class Lock(NamedTuple):
    """What one record says."""

    state: str
    dirty: bool
    expiry: int
    jid: str
    tail: str

    @classmethod
    def parse(cls, raw: bytes) -> Lock:
        text = raw.decode()
        jid, _, tail = text[18:].partition("|")
        return cls(text[0], text[1] == "1", int(text[8:18]), jid, tail)


@dataclass(slots=True)
class Snapshot:
    """All copies of all jobs, and the locks of the generation, with those of the one that a roll is leaving."""

    copies: list[Copy] = field(default_factory=list)
    locks: dict[str, Lock] = field(default_factory=dict)
    epoch: Epoch | None = None
    marks: dict[str, bytes] = field(default_factory=dict)
    """`#` of each working hash, by identity."""
    lengths: dict[bytes, int] = field(default_factory=dict)
    """How many of our jobs each list and sorted set holds."""
    counted: dict[bytes, int] = field(default_factory=dict)
    generations: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    names: list[bytes] = field(default_factory=list)

    @classmethod
    def parse(cls, reply: Sequence[Any]) -> Snapshot:
        """Return what the script SNAPSHOT saw."""
        state = cls()
        for key, value in reply:
            state.names.append(key)
            state._take(key, value)
        state._read_locks()
        return state

    def of_jid(self) -> dict[str, list[Copy]]:
        """Return the copies by jid."""
        found: dict[str, list[Copy]] = {}
        for copy in self.copies:
            found.setdefault(copy.jid, []).append(copy)
        return found

    def of_key(self) -> dict[str, list[Copy]]:
        """Return the unfinished copies by the digest of their key."""
        found: dict[str, list[Copy]] = {}
        for copy in self.copies:
            if copy.digest and copy.unfinished:
                found.setdefault(copy.digest, []).append(copy)
        return found

    def _take(self, key: bytes, value: Any) -> None:
        if key.startswith(_LISTS):
            self._add_all(key, value)
        elif key.startswith(_ZSETS):
            self._add_all(key, value[::2])
        elif key.startswith(_HASHES):
            self._add_held(key, _pairs(value))
        elif key.startswith(keys.UNIQUE):
            self.generations[key[len(keys.UNIQUE) :].decode()] = _pairs(value)
        elif key == keys.EPOCH:
            self.epoch = Epoch.parse(value)
        elif key.startswith(keys.counted(b"")):
            self.counted[key[len(keys.counted(b"")) :]] = int(value)

    def _add_held(self, key: bytes, pairs: dict[bytes, bytes]) -> None:
        if key.startswith(keys.WORKING_PREFIX):
            self.marks[key[len(keys.WORKING_PREFIX) :].decode()] = pairs.get(b"#", b"")
        for name, raw in pairs.items():
            if name not in _MARKS:
                self._add(key, raw, name)

    def _add_all(self, key: bytes, raws: Sequence[bytes]) -> None:
        self.lengths[key] = len(raws)
        for raw in raws:
            self._add(key, raw, b"")

    def _add(self, key: bytes, raw: bytes, name: bytes) -> None:
        unique, jid, _ = header(raw) or ("-", raw.decode("utf-8", "replace"), "")
        lock = unique[:22] if len(unique) > 22 else ""
        self.copies.append(Copy(key.decode(), jid, lock, unique[22:23] == "S", name))

    def _read_locks(self) -> None:
        if self.epoch is None:
            return
        for generation in (self.epoch.previous, self.epoch.generation):
            for name, raw in self.generations.get(generation or "", {}).items():
                if name != b"#":
                    self.locks[name.decode()] = Lock.parse(raw)


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
