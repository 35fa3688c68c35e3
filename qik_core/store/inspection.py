"""What `doctor` asks of Redis: the server, who works on this database, what was counted. Writes nothing.

A user without the right to an INFO or a CONFIG is told so: what may not be asked is a name in `denied`, never a failure.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from qik_core.errors import StoreError
from qik_core.store import keys
from qik_core.store.cursors import members
from qik_core.store.held import HeldJobs, held
from qik_core.store.link import Arg, Link
from qik_core.store.recovery import tally

OURS: Final = "qik"
"""The label of our processes among Sidekiq's."""

_TYPES: Final = {
    keys.QUEUES: b"set",
    keys.SCHEDULE: b"zset",
    keys.RETRY: b"zset",
    keys.DEAD: b"zset",
    keys.PROCESSES: b"set",
    keys.PAUSED: b"set",
    keys.EPOCH: b"string",
    keys.ALIVE: b"zset",
    keys.ENDED: b"list",
    keys.ENDED_READ: b"string",
    keys.ORPHANS: b"zset",
    keys.ROLLER: b"string",
    keys.ROLL: b"string",
    keys.COUNTS: b"hash",
    keys.CANCELLED: b"zset",
    keys.ASIDE: b"set",
    keys.HELD: b"hash",
    keys.SWITCHES: b"string",
    keys.SWITCHED: b"hash",
}
_REFUSED: Final = ("NOPERM", "unknown command", "unknown subcommand")
_MOST: Final = 500  # processes and queues that are looked at
_PINGS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What a server says of itself; None where it may not be asked."""

    kind: str
    """redis or valkey."""
    version: tuple[int, int, int]
    replica: bool = False
    cluster: bool = False
    policy: str | None = None
    """maxmemory-policy."""
    maxmemory: int = 0
    """Bytes; 0 has no limit."""
    used_memory: int = 0
    maxclients: int | None = None
    clients: int = 0
    append_only: bool = False
    save: str | None = None
    """The points in time at which it saves a snapshot; empty: never."""
    failing: tuple[str, ...] = ()
    """Which ways of saving failed the last time."""
    denied: tuple[str, ...] = ()
    """What this user may not ask."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A process as Sidekiq's pages list it; of ours or of Ruby's."""

    identity: str
    ours: bool
    queues: tuple[str, ...]
    beat: float
    """Epoch seconds of its last beat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that was seen in one examination. Times are in seconds."""

    server: Server
    round_trip: float = 0.0
    """Of the fastest of a few pings."""
    script: str = ""
    """Why scripts do not run; empty when they do."""
    skew: float = 0.0
    """By how much this host's clock is ahead of the server's."""
    now: float = 0.0
    """Epoch seconds, the server's."""
    workers: Sequence[Worker] = ()
    queues: Mapping[str, int] = field(default_factory=dict)
    """Jobs on each queue; -1 where the key is no list."""
    later: Mapping[str, int] = field(default_factory=dict)
    """Jobs of these queues that are not due yet."""
    paused: Sequence[str] = ()
    wrong: Mapping[str, str] = field(default_factory=dict)
    """Keys of ours that hold another type, and which."""
    counts: Mapping[str, int] = field(default_factory=dict)
    held: Sequence[HeldJobs] = ()
    """Of classes that are switched off."""
    aside: int = 0
    """Jobs that a flush has put aside and that are neither gone nor back."""


def inspect(link: Link, clock: Callable[[], float] = time.time) -> Facts:
    """Look at everything, within a few dozen calls. Raises StoreError, also StoreUnavailable."""
    server = read_server(link)
    if server.cluster:  # it would answer for its own slots only, and with an error for the others
        return Facts(server=server)
    wrong = _wrong(link)
    skew, now = _skew(link, clock)
    sets = {key for key in (keys.QUEUES, keys.PAUSED, keys.PROCESSES) if key.decode() not in wrong}
    return Facts(
        server=server,
        round_trip=_round_trip(link),
        script=_script(link),
        skew=skew,
        now=now,
        workers=_workers(link, wrong) if keys.PROCESSES in sets else (),
        queues=_sizes(link, "LLEN", keys.queue) if keys.QUEUES in sets else {},
        later=_sizes(link, "ZCARD", keys.later) if keys.QUEUES in sets else {},
        paused=members(link.call, keys.PAUSED, _MOST) if keys.PAUSED in sets else (),
        wrong=wrong,
        counts=tally(link) if keys.COUNTS.decode() not in wrong else {},
        held=held(link.call) if keys.HELD.decode() not in wrong else (),
        aside=_aside(link) if keys.ASIDE.decode() not in wrong else 0,
    )


def read_server(link: Link) -> Server:
    """Return what the server says of itself. Raises StoreError, but not for what this user may not ask."""
    denied: list[str] = []
    told = _asked(link, denied, "INFO") or b""
    info = dict(line.partition(":")[::2] for line in told.decode("utf-8", "replace").splitlines())
    kind = "valkey" if "valkey_version" in info else "redis"
    return Server(
        kind=kind,
        version=_version(info.get("valkey_version") or info.get("redis_version", "")),
        replica="master_link_status" in info,
        cluster=info.get("cluster_enabled") == "1",
        policy=info.get("maxmemory_policy") or _config(link, denied, "maxmemory-policy"),
        maxmemory=int(info.get("maxmemory", 0)),
        used_memory=int(info.get("used_memory", 0)),
        maxclients=_number(info.get("maxclients") or _config(link, denied, "maxclients")),
        clients=int(info.get("connected_clients", 0)),
        append_only=info.get("aof_enabled") == "1",
        save=_config(link, denied, "save"),
        failing=tuple(name for name in _SAVING if info.get(name, "ok") != "ok"),
        denied=tuple(dict.fromkeys(denied)),
    )


_SAVING: Final = ("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status")


def _asked(link: Link, denied: list[str], *command: str) -> Any:
    """Return the answer, or None when this user may not ask or the server has no such command."""
    try:
        return link.call(*command)
    except StoreError as error:
        if not any(word in str(error) for word in _REFUSED):
            raise
        denied.append(" ".join(command[:2]))
        return None


def _config(link: Link, denied: list[str], name: str) -> str | None:
    pair = _asked(link, denied, "CONFIG", "GET", name)
    return pair[1].decode() if pair else None


def _number(text: str | None) -> int | None:
    return int(text) if text else None


def _version(text: str) -> tuple[int, int, int]:
    """Return a version as three numbers; zeros for one that is unknown."""
    numbers = [int(part) if part.isdigit() else 0 for part in text.split(".")[:3]]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


def _aside(link: Link) -> int:
    lists = members(link.call, keys.ASIDE, _MOST)
    return sum(link.call("LLEN", key) for key in lists if link.call("TYPE", key) == b"list")


def _round_trip(link: Link) -> float:
    taken = []
    for _ in range(_PINGS):
        asked = time.perf_counter()
        link.call("PING")
        taken.append(time.perf_counter() - asked)
    return min(taken)


def _script(link: Link) -> str:
    """Return why a script that reads nothing cannot run; empty when it can."""
    try:
        link.run("audit")
    except StoreError as error:
        return str(error)
    return ""


def _skew(link: Link, clock: Callable[[], float]) -> tuple[float, float]:
    """Return by how much this host is ahead, without the time that the question was under way, and the server's time."""
    before = clock()
    seconds, micros = link.call("TIME")
    after = clock()
    server = int(seconds) + int(micros) / 1e6
    if before <= server <= after:
        return 0.0, server
    return (before - server if server < before else after - server), server


def _workers(link: Link, wrong: dict[str, str]) -> list[Worker]:
    """Return who is listed; what is listed and holds something else is added to `wrong`."""
    found = []
    names = members(link.call, keys.PROCESSES, _MOST)
    told = _together(link, [("HMGET", keys.process(name), "info", "beat") for name in names])
    for name, reply in zip(names, told, strict=True):
        if reply is None:
            wrong[name] = "no hash"
        elif reply[0] is not None:
            found.append(_worker(name, *reply))
    return found


def _worker(identity: str, info: bytes, beat: bytes | None) -> Worker:
    """Return a process by what it says of itself; one that says nothing readable is not ours."""
    try:
        told = json.loads(info)
        labels, queues = list(told.get("labels") or ()), list(told.get("queues") or ())
        last = float(beat or 0)
    except (ValueError, AttributeError, TypeError):
        labels, queues, last = [], [], 0.0
    return Worker(identity, OURS in labels, tuple(map(str, queues)), last)


def _sizes(link: Link, command: str, key: Callable[[str], bytes]) -> dict[str, int]:
    """Return what each queue has under such a key; -1 where that holds something else."""
    names = members(link.call, keys.QUEUES, _MOST)
    told = _together(link, [(command, key(name)) for name in names])
    return {name: -1 if size is None else int(size) for name, size in zip(names, told, strict=True)}


def _together(link: Link, commands: Sequence[tuple[Arg, ...]]) -> list[Any]:
    """Return the reply to each command, all sent before one is waited for; None where a key holds another type."""
    for command in commands:
        link.send(*command)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(link.receive())
        except StoreError as error:
            if "WRONGTYPE" not in str(error):
                link.close()  # there are replies that nobody will read
                raise
            replies.append(None)
    return replies


def _wrong(link: Link) -> dict[str, str]:
    wrong = {}
    for key, right in _TYPES.items():
        found = link.call("TYPE", key)
        text = found.decode() if isinstance(found, bytes) else str(found)
        if text not in ("none", right.decode()):
            wrong[key.decode()] = f"a {text}, not a {right.decode()}"
    return wrong
