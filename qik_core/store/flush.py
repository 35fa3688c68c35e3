"""A flush as Redis sees it: lists are put aside, sorted job by job, and what must live goes back.

    turn     one flush at a time; the turn of one that has died is over at once where its process is known, elsewhere in 30 s
    aside    a list is renamed: nobody fetches from it while it is decided what becomes of each job
    sort     250 jobs of it at a time: removed with their locks, or back to where they were
    renew    a new loss id, when everything was meant

A death in the middle loses nothing: what is aside stays there until a flush goes on with it. Retry policy: each call is sent
once; each is safe to repeat.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from qik_core.errors import StoreError, WrongType
from qik_core.store import keys
from qik_core.store.cursors import keys_like
from qik_core.store.epoch import Epoch
from qik_core.store.link import Arg
from qik_core.store.pressure import load_of
from qik_core.store.push import MOST
from qik_core.store.records import Claim, Records
from qik_core.store.store import Candidate, Store
from qik_core.store.windows import Entry, ListReader, SortedReader, typed

CHUNK: Final = 250
"""Jobs of one step."""
TURN: Final = 30.0
"""Seconds within which a step must follow the last one; then another flush may go on."""
KNOWN: Final = 30 * 86_400
"""Seconds for which it is known which jobs of an export were put back."""
_TRASH: Final = re.compile(re.escape(keys.TRASH_PREFIX) + rb"[0-9a-f]{12}:(.+)", re.DOTALL)
_OTHERS: Final = -1
_BEFORE: Final = -2
_ROLLING: Final = -2


class Place(StrEnum):
    """Where a job waits."""

    SCHEDULED = "scheduled"  # by the application, or by a pass with jitter
    RETRYING = "retrying"
    DEAD = "dead"
    HELD = "held"
    QUEUED = "queued"  # also alone, as a suspect


class Home(NamedTuple):
    """One list or sorted set in which jobs may wait."""

    place: Place
    key: bytes
    """Where the jobs belong."""
    trash: bytes = b""
    """Where they are now, when a flush has put that list aside."""

    @property
    def is_list(self) -> bool:
        """Whether it is a list; else it is a sorted set."""
        return self.place in (Place.QUEUED, Place.HELD)

    @property
    def goes_aside(self) -> bool:
        """Whether a flush puts it aside as a whole: a list that workers fetch from."""
        return self.place is Place.QUEUED

    @property
    def queue(self) -> str:
        """The queue of its jobs; empty where jobs of all queues are together."""
        prefix = next((each for each in _OF_A_QUEUE if self.key.startswith(each)), None)
        return "" if prefix is None else self.key[len(prefix) :].decode("utf-8", "replace")


_OF_A_QUEUE: Final = (keys.queue(""), keys.suspect(""), keys.later(""))
_ONE_EACH: Final = (
    Home(Place.SCHEDULED, keys.SCHEDULE),
    Home(Place.RETRYING, keys.RETRY),
    Home(Place.DEAD, keys.DEAD),
)
_PREFIXES: Final = (
    (keys.later(""), Place.SCHEDULED),
    (keys.held(""), Place.HELD),
    (keys.suspect(""), Place.QUEUED),
    (keys.queue(""), Place.QUEUED),
)
_ORDER: Final = tuple(Place)
_KEYS: Final = b"q*:*"  # what else matches is filtered


class TurnLost(StoreError):
    """Another flush goes on in this one's place: begin anew when it has ended."""


class FlushStore:
    """One flush of one Redis. Not for two threads at once; all methods raise StoreError.

    `who` is told to whoever waits for this one.
    """

    def __init__(self, store: Store, who: str) -> None:
        self.records: Final = Records(store)
        self._store = store
        self._links = store.links
        self._candidate = store.candidate
        self._flush = os.urandom(6).hex()
        self._me = f"{os.urandom(4).hex()} {os.getpid()} {_here()} {who}"
        self._noted: tuple[bytes, ...] = ()
        self._kept: dict[bytes, str] = {}

    # --- whose turn ------------------------------------------------------------------------------

    def turn(self) -> str:
        """Take the turn; returns who has it, empty when this one has it now."""
        holder = self._ask(TURN)
        if holder and _has_died(holder):
            holder = self._ask(TURN, holder)
        return (holder.split(" ", 3)[-1] or "somebody") if holder else ""

    def go_on(self) -> None:
        """Keep the turn for 30 s more. Raises TurnLost."""
        if self._ask(TURN):
            raise TurnLost(_TAKEN)

    def give_up(self) -> None:
        """Let others have their turn."""
        self._ask(0.0)

    def _ask(self, seconds: float, dead: str = "") -> str:
        answer: bytes = self._links.run("flush_turn", (), (self._me, int(seconds * 1000), dead))
        return answer.decode("utf-8", "replace")

    # --- what there is ---------------------------------------------------------------------------

    def homes(self) -> list[Home]:
        """Return every list and sorted set in which jobs may wait, those that are aside among them.

        Sources before targets: a job that moves meanwhile is met at one of the two.
        """
        found = {_home(key) for key in keys_like(self._links.call, _KEYS)}
        there = [*_ONE_EACH, *(each for each in found if each is not None)]
        wanted = {home: b"list" if home.is_list else b"zset" for home in there}
        right = [each for each, kind in wanted.items() if self._type(each) == kind]
        return sorted(right, key=lambda each: (_ORDER.index(each.place), each.key, each.trash))

    def asides(self) -> list[Home]:
        """Return the lists that are aside, by whichever flush."""
        found = {_home(key) for key in keys_like(self._links.call, keys.TRASH_PREFIX + b"*")}
        return sorted(each for each in found if each is not None)

    def windows(self, home: Home) -> ListReader | SortedReader:
        """Return a reader of everything there; safe while others push, fetch and delete."""
        key = home.trash or home.key
        if home.is_list:
            return self.records.list_windows(key)
        return self.records.sorted_windows(key)

    def last(self, home: Home) -> Entry | None:
        """Return the job that a reader meets last, as it is now; None when there is none."""
        with typed(home.key):
            if home.is_list:
                raw = self._links.call("LINDEX", home.key, -1)
                return None if raw is None else Entry(raw)
            rows = self._links.call("ZRANGE", home.key, -1, -1, "WITHSCORES")
        return Entry(rows[0], float(rows[1])) if rows else None

    def has_some(self, home: Home) -> bool:
        """Whether jobs of ours are in a list, as its count says; what is no count may be about anything."""
        try:
            with typed(home.key):
                count = self._links.call("GET", keys.counted(home.key))
        except WrongType:
            return True
        return count is not None and count != b"0"

    def memory(self) -> tuple[int, int]:
        """Return how many bytes Redis uses, and how many it may: 0 without a limit, or where this user may not ask."""
        load = load_of(self._links, "default")
        return load.used, load.limit

    def _type(self, home: Home) -> bytes:
        kind: bytes = self._links.call("TYPE", home.trash or home.key)
        return kind

    # --- the steps -------------------------------------------------------------------------------

    def drop(self, home: Home, claims: Sequence[Claim], at: int | None) -> list[bool]:
        """Remove at most 250 jobs from a sorted set, or from a window of a list, with their locks.

        Says for each whether it was there; also one that pushes have moved out of its window is found.
        """

        def step(some: Sequence[Claim], at: int | None) -> bytes:
            more = len(some) < len(claims)
            try:
                return self._drop(home, some, at, more=more)
            except TurnLost:
                if not more:
                    raise
                return b""  # what was removed must be known: the next step will say it

        with typed(home.key):
            return _reach(step, claims, at, removes=True)

    def _drop(self, home: Home, claims: Sequence[Claim], at: int | None, *, more: bool) -> bytes:
        rows = [each for claim in claims for each in (claim.digest, claim.jid, claim.raw)]
        names = (home.key, *self._noted)
        while True:
            front = (*self._front(home, at), "1" if more else "", self._kept.get(home.key, ""))
            answer = self._step("flush_drop", names, (*front, *rows))
            if answer != _ROLLING:
                return bytes(answer)
            self._kept[home.key] = self._store.look().generation
            self.relock(home)

    def aside(self, home: Home) -> int:
        """Put a list aside; says how many jobs it had."""
        names = (home.key, keys.trash(self._flush, home.key))
        self._flush = os.urandom(6).hex()  # a list that is filled again goes aside beside this one
        with typed(home.key):
            return int(self._step("flush_aside", names, self._mine))

    def head(self, home: Home) -> tuple[int, list[bytes]]:
        """Return how long a list is that is aside, and the next jobs of it to sort, the newest first."""
        length: int = self._links.call("LLEN", home.trash)
        raws: list[bytes] = self._links.call("LRANGE", home.trash, 0, CHUNK - 1)
        return length, raws

    def sort(self, home: Home, length: int, gone: Sequence[bool]) -> bool:
        """Remove these of the next jobs, and put the others back; False when that was done before."""
        flags = "".join("x" if each else "b" for each in gone)
        names = (home.trash, home.key, *self._noted)
        with typed(home.key):
            args = (self._candidate.text, *self._mine, length, flags)
            return bool(self._step("flush_sort", names, args) != _BEFORE)

    def renew(self, loss: str) -> Epoch:
        """Make a new loss id in place of this one, if that has not been done: one that says that nothing was lost."""
        fresh = Candidate(behind=loss).text  # with a birth now: what runs needs the time to say so
        args = (self._candidate.text, self._me, int(TURN * 1000), loss, fresh)
        text = self._links.run("flush_all", (), args)
        if not text:
            raise TurnLost(_TAKEN)
        return self._candidate.seen(Epoch.parse(text))

    def relock(self, home: Home) -> None:
        """Give the jobs of a list or sorted set their locks again, where they have none in the present generation."""
        for window in self.windows(home):
            self.keep(home, [each.raw for each in window.entries], window.at)

    def keep(self, home: Home, raws: Sequence[bytes], at: int | None) -> None:
        """The same for some of its jobs, at most 500; `at` is where the window of a list was read."""

        def step(some: Sequence[bytes], at: int | None) -> bytes:
            return bytes(self._step("flush_keep", (home.key,), (*self._front(home, at), *some)))

        with typed(home.key):
            _reach(step, raws, at)

    # --- what a file keeps -----------------------------------------------------------------------

    def removed(self, export: str, jids: Sequence[str]) -> set[str] | None:
        """Return which of these jids the last step removed that was noted under this export; None: not known any more."""
        key = keys.flushed(export)
        found: set[str] | None = set()
        for start in range(0, len(jids), MOST):
            some = jids[start : start + MOST]
            with typed(key):
                known, *flags = self._links.call("SMISMEMBER", key, "#", *some)
            there = {jid for jid, flag in zip(some, flags, strict=True) if flag}
            found = None if found is None or not known else found | there
        return found

    def note(self, export: str) -> None:
        """Note each step from now on under this export, and forget what was noted: that is to be on disk before."""
        key = keys.flushed(export)
        self._links.run("flush_file", (key,), ())
        self._noted = (key,)

    def restore(
        self, export: str, home: Home, rows: Sequence[tuple[str, float | None, bytes]]
    ) -> list[str]:
        """Put jobs of an export back: jid, score in a sorted set, payload.

        Returns for each `1`, `0` when it was put back before or is there, or `=` and the jid of the job that holds its key.
        """
        kind = "list" if home.is_list else "zset"
        args: list[Arg] = [self._candidate.text, kind, KNOWN]
        for jid, score, raw in rows:
            args += (jid, "" if score is None else f"{score:.6f}", raw)
        with typed(home.key):
            answers: Any = self._links.run("restore", (home.key, keys.restored(export)), args)
        return [answer.decode("utf-8", "replace") for answer in answers]

    @property
    def _mine(self) -> tuple[Arg, ...]:
        return self._me, int(TURN * 1000)

    def _front(self, home: Home, at: int | None) -> tuple[Arg, ...]:
        kind = "list" if home.is_list else "zset"
        return self._candidate.text, *self._mine, kind, "" if at is None else at

    def _step(self, name: str, names: Sequence[bytes], args: Sequence[Arg]) -> Any:
        answer = self._links.run(name, names, args)
        if answer == _OTHERS:
            raise TurnLost(_TAKEN)
        return answer


T = TypeVar("T")


def _reach(
    step: Callable[[Sequence[T], int | None], bytes],
    rows: Sequence[T],
    at: int | None,
    *,
    removes: bool = False,
) -> list[bool]:
    """Take a step with these; what pushes have moved out of their window of a list meanwhile is looked for behind it.

    The step says of each whether it was there, and nothing where the list has ended.
    """
    reached = [False] * len(rows)
    left = list(range(len(rows)))
    while left:
        flags = step([rows[place] for place in left], at)
        for place, flag in zip(left, flags, strict=False):
            reached[place] = flag == ord("1")
        left = [place for place in left if not reached[place]]
        if at is None or not flags:
            break
        at += MOST - (flags.count(b"1") if removes else 0)
    return reached


_TAKEN: Final = "another flush goes on in place of this one, which took no step for 30 s"


def home_of(key: bytes) -> Home | None:
    """Return the list or sorted set of this name; None where no jobs wait under such a name."""
    for each in _ONE_EACH:
        if each.key == key:
            return each
    for prefix, place in _PREFIXES:
        if key.startswith(prefix):
            home = Home(place, key)
            return home if place is Place.HELD or keys.is_queue(home.queue) else None
    return None


def _home(key: bytes) -> Home | None:
    aside = _TRASH.fullmatch(key)
    if aside is None:
        return home_of(key)
    home = home_of(aside[1])
    return None if home is None or not home.goes_aside else home._replace(trash=key)


def _has_died(holder: str) -> bool:
    """Say whether that flush ran where this process would see it, and its process is no more."""
    _, pid, place, *_ = [*holder.split(" ", 3), "", "", ""]
    if place != _here() or place == _NOWHERE or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


_NOWHERE: Final = "-"


def _here() -> str:
    """Return within what a pid means one process: this boot of this machine, and a namespace of pids in it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return _NOWHERE
