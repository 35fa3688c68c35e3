"""What lies between the engine's own code and the server: one command at a time, under a clock of our own.

Code of the engine runs as an *errand*: it stops behind each of its commands, when Redis has done the work and the answer is
still on its way. So whoever drives the errands decides what happens in between, and whether the answer arrives at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import hiredis
from greenlet import GreenletExit, getcurrent, greenlet

from qik_core.errors import StoreUnavailable
from qik_core.store.link import Arg, Link, Links
from qik_core.store.scripts import script
from tests.machine.snapshot import SNAPSHOT, Snapshot

CLOCK: Final = b"machine:clock"
_TIME: Final = 'redis.call("TIME")'
_OUR_TIME: Final = f'{{redis.call("GET", "{CLOCK.decode()}"):match("^(%d+) (%d+)$")}}'
_INSTANT: Final = 0.001  # seconds between two commands
_HOP: Final = b"""
for _, key in ipairs(redis.call("KEYS", "*")) do
  local left = redis.call("PTTL", key)
  if left >= 0 and left <= tonumber(ARGV[1]) then redis.call("DEL", key)
  elseif left >= 0 then redis.call("PEXPIRE", key, left - ARGV[1]) end
end
"""
_READS: Final = {"TYPE", "SCAN", "HKEYS", "HMGET", "HGET", "SSCAN", "ZRANGE", "EXISTS", "ZSCORE", "GET"}  # fmt: skip
_STOPS: Final = {"HKEYS", "HMGET", "HGET"}  # what was read there may be old when it is used

Replace = Mapping[str, Sequence[tuple[str, str]]]
"""Name of a script → pieces of its text and what stands there instead."""


class Errand:
    """Code of the engine that stops behind each command until it is told to go on."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._course: Any = greenlet(work)
        self._course.errand = self
        self._lose = False

    def step(self, *, lose: bool = False) -> bool:
        """Let it go on to its next command or to its end; says whether it has ended. `lose`: the answer never comes."""
        self._lose = lose
        self._course.parent = getcurrent()
        self._course.switch()
        return bool(self._course.dead)

    def finish(self) -> None:
        """Let it go on to its end."""
        while not self.step():
            pass

    def kill(self) -> None:
        """End it where it is."""
        self._course.parent = getcurrent()
        self._course.throw(GreenletExit)

    @staticmethod
    def stop() -> None:
        """Stop the errand that is under way, if there is one, until it may go on."""
        course = getcurrent()
        errand: Errand | None = getattr(course, "errand", None)
        if errand is None:
            return
        course.parent.switch()
        if errand._lose:
            raise StoreUnavailable("the answer was lost", sent=True)


class Step(NamedTuple):
    """One command that may have changed something, with what was there before and after."""

    actor: str
    name: str
    """Of a script, or what an operator did."""
    names: Sequence[bytes]
    args: Sequence[Arg]
    reply: Any
    before: Snapshot
    after: Snapshot
    time: float


@dataclass(frozen=True, slots=True)
class _Script:
    text: bytes
    sha: bytes


class Scripts:
    """The engine's scripts under our clock, with mistakes planted in them on request."""

    def __init__(self, replace: Replace) -> None:
        self._replace = replace
        self._made: dict[str, _Script] = {}

    def get(self, name: str) -> _Script:
        """Return a script; fails when a mistake does not fit its text any more."""
        if name not in self._made:
            text = script(name).text.decode()
            for old, new in self._replace.get(name, ()):
                assert text.count(old) == 1, f"{name}.lua has {text.count(old)} times: {old}"
                text = text.replace(old, new)
            raw = text.replace(_TIME, _OUR_TIME).encode()
            sha = hashlib.sha1(raw, usedforsecurity=False).hexdigest().encode()
            self._made[name] = _Script(raw, sha)
        return self._made[name]


class Server:
    """The server, as everybody in a run of the machine reaches it. One command at a time."""

    def __init__(self, url: str, replace: Replace, watch: Callable[[Step], None]) -> None:
        self.url = url
        self.now = 1_800_000_000.0
        self._link = Link(url)
        self._scripts = Scripts(replace)
        self._known: set[bytes] = set()
        self._watch = watch
        self._link.call("FLUSHALL")
        self._link.call("SCRIPT", "FLUSH")
        self._look = self._load(SNAPSHOT)
        self._hop = self._load(_HOP)
        self.state = Snapshot.parse([])

    def clock(self) -> float:
        """Return the time; every clock of the engine is this one."""
        return self.now

    def run(self, actor: str, name: str, names: Sequence[bytes], args: Sequence[Arg]) -> Any:
        """Run a script of the engine."""
        lua = self._scripts.get(name)
        if lua.sha not in self._known:
            self._load(lua.text)
        command = ("EVALSHA", lua.sha, len(names), *names, *args)
        return self._watched(actor, name, names, args, [command])

    def call(self, actor: str, *args: Arg) -> Any:
        """Send one command of the engine."""
        word = str(args[0])
        if word in _READS:
            return self._link.call(*args)
        return self._watched(actor, word, (), args, [args])

    def operate(self, name: str, *commands: Sequence[Arg]) -> None:
        """Do what a person does by hand, in one step."""
        self._watched("operator", name, (), (), [("MULTI",), *commands, ("EXEC",)])

    def hop(self, seconds: float) -> None:
        """Let time pass, for clocks and for keys that expire."""
        self.now += seconds
        self._watched("time", "hop", (), (), [("EVALSHA", self._hop, 0, int(seconds * 1000))])

    def read(self, *args: Arg) -> Any:
        """Look at something."""
        return self._link.call(*args)

    def close(self) -> None:
        """Drop the connection."""
        self._link.close()

    def _watched(
        self,
        actor: str,
        name: str,
        names: Sequence[bytes],
        args: Sequence[Arg],
        commands: Sequence[Any],
    ) -> Any:
        self.now = round(self.now + _INSTANT, 6)
        seconds, part = divmod(round(self.now * 1e6), 1_000_000)
        link = self._link
        around = [("SET", CLOCK, f"{seconds} {part}"), *commands, ("EVALSHA", self._look, 0)]
        packed = b"".join([hiredis.pack_command(tuple(command)) for command in around])
        link._open().send_packed_command(
            [packed], check_health=False
        )  # one write for all, for speed
        *_, reply, seen = [link.receive() for _ in around]
        before, self.state = self.state, Snapshot.parse(seen)
        self._watch(Step(actor, name, names, args, reply, before, self.state, self.now))
        return reply

    def _load(self, text: bytes) -> bytes:
        sha: bytes = self._link.call("SCRIPT", "LOAD", text)
        self._known.add(sha)
        return sha


class Wire(Link):
    """A connection of the engine, through us."""

    def __init__(self, server: Server, actor: str) -> None:
        super().__init__(server.url)
        self._server = server
        self._actor = actor

    def call(self, *args: Arg, timeout: float | None = None) -> Any:
        reply = self._server.call(self._actor, *args)
        if str(args[0]) in _STOPS or str(args[0]) not in _READS:
            Errand.stop()
        return reply

    def run(
        self,
        name: str,
        names: Sequence[bytes] = (),
        args: Sequence[Arg] = (),
        timeout: float | None = None,
    ) -> Any:
        reply = self._server.run(self._actor, name, names, args)
        Errand.stop()
        return reply

    def start(self, name: str, names: Sequence[bytes] = (), args: Sequence[Arg] = ()) -> None:
        self._begun = name, names, args

    def finish(self, timeout: float | None = None) -> Any:
        return self.run(*self._begun)


class Wires(Links):
    """The connections of a program, all through us."""

    def __init__(self, server: Server, actor: str) -> None:
        super().__init__(server.url)
        self._wire = Wire(server, actor)

    def borrow(self) -> Link:
        return self._wire

    def give(self, link: Link) -> None:
        """Keep nothing: there is one."""
