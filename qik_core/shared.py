"""A page of memory that a parent and one child share: how a parent sees a child that cannot speak.

A job that holds the GIL stops every thread of its process, and a process that SIGKILL ended says nothing. So the child
writes down beforehand what its parent will need: that it is alive (a tick), who it is, and which jobs it has started.

    offset  size  what
         0     8  magic, number of slots
         8     8  tick: float seconds of `clock()`
        16     1  state: index into the members of `State`
        17     1  which of the two identities holds
        18     2  their lengths
        32   400  two identities of 200 bytes: one is written while the other holds, so none is ever read half
       448    32  per slot: the field of the working hash whose job was started; zeros when there is none

Standard library only: the parent loads this file without the package.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Final

IDENTITY_BYTES: Final = 200
FIELD_BYTES: Final = 32
_MAGIC: Final = b"qik1"
_HEAD = struct.Struct("<4sI")
_TICK = struct.Struct("<d")
_FIELD = struct.Struct(f"{FIELD_BYTES}s")
_TICK_AT: Final = 8
_STATE_AT: Final = 16
_WHICH_AT: Final = 17
_LENGTHS_AT: Final = 18
_IDENTITIES_AT: Final = 32
_SLOTS_AT: Final = 448


class State(StrEnum):
    """How far a child's life has come."""

    BOOTING = "booting"
    READY = "ready"  # fetches
    QUIET = "quiet"  # fetches no more, finishes what it has
    STOPPING = "stopping"  # asked to end


_STATES: Final = tuple(State)


def clock() -> float:
    """Return seconds of a clock that all processes of one host share and that nobody can set.

    It goes on while the machine is suspended, where the system has such a clock.
    """
    return time.clock_gettime(_CLOCK)


_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Shared:
    """The shared page. One child writes; its parent reads."""

    __slots__ = ("_map", "_pack", "_view", "fd", "slots")

    def __init__(self, fd: int, slots: int) -> None:
        self.fd = fd
        self.slots = slots
        self._map = mmap.mmap(fd, _SLOTS_AT + slots * FIELD_BYTES)
        self._view = memoryview(self._map)
        self._pack = _FIELD.pack_into

    @classmethod
    def create(cls, slots: int) -> Shared:
        """Make a page for a child that runs at most `slots` jobs at once. Its `fd` goes to the child by `pass_fds`."""
        fd = _anonymous_file()
        os.ftruncate(fd, _SLOTS_AT + slots * FIELD_BYTES)
        os.pwrite(fd, _HEAD.pack(_MAGIC, slots), 0)
        return cls(fd, slots)

    @classmethod
    def attach(cls, fd: int) -> Shared:
        """Open the page that the parent made.

        Raises:
            ValueError: the descriptor is not such a page: parent and child are of different versions
            OSError: the descriptor is not open
        """
        head = os.pread(fd, _HEAD.size, 0)
        if len(head) != _HEAD.size or not head.startswith(_MAGIC):
            raise ValueError(
                f"file descriptor {fd} is not a page shared by a parent: start children with `qik work`"
            )
        return cls(fd, _HEAD.unpack(head)[1])

    def close(self) -> None:
        """Let go of the page. The other side keeps its own hold."""
        self._view.release()
        self._map.close()
        os.close(self.fd)

    # --- the child writes ----------------------------------------------------

    def tick(self, now: float) -> None:
        """Say that the child is alive at `now`, seconds of `clock()`."""
        _TICK.pack_into(self._view, _TICK_AT, now)

    def start(self, slot: int, field: bytes) -> None:
        """Name the job that a slot is about to run by its field `<seq>.<n>` of the working hash."""
        self._pack(self._view, _SLOTS_AT + slot * FIELD_BYTES, field)

    def clear(self, slot: int) -> None:
        """Say that a slot's job has ended: a death from now on is not its doing."""
        self._pack(self._view, _SLOTS_AT + slot * FIELD_BYTES, b"")

    def marker(self, slot: int) -> Callable[[bytes], None]:
        """Return the quickest way to call `start` for one slot again and again; `mark(b"")` clears."""
        return partial(self._pack, self._view, _SLOTS_AT + slot * FIELD_BYTES)

    # --- either side ---------------------------------------------------------

    @property
    def state(self) -> State:
        """How far the child's life has come."""
        return _STATES[self._view[_STATE_AT]]

    @state.setter
    def state(self, state: State) -> None:
        self._view[_STATE_AT] = _STATES.index(state)

    @property
    def identity(self) -> str:
        """The child's present identity; empty before it has one."""
        which = self._view[_WHICH_AT] & 1
        begin = _IDENTITIES_AT + which * IDENTITY_BYTES
        return bytes(self._view[begin : begin + self._view[_LENGTHS_AT + which]]).decode(
            "utf-8", "replace"
        )

    @identity.setter
    def identity(self, identity: str) -> None:
        """Take an identity. The marks of the one before are cleared: its working hash is somebody else's by now.

        Raises:
            ValueError: not 1 to 200 bytes
        """
        raw = identity.encode()
        if not 1 <= len(raw) <= IDENTITY_BYTES:
            raise ValueError(
                f"an identity has 1 to {IDENTITY_BYTES} bytes, not {len(raw)}: {identity!r:.80}"
            )
        for slot in range(self.slots):
            self.clear(slot)
        other = 1 - (self._view[_WHICH_AT] & 1)
        begin = _IDENTITIES_AT + other * IDENTITY_BYTES
        self._view[begin : begin + len(raw)] = raw
        self._view[_LENGTHS_AT + other] = len(raw)
        self._view[_WHICH_AT] = other

    # --- the parent reads ----------------------------------------------------

    def last_tick(self) -> float:
        """Return the last tick, seconds of `clock()`; 0.0 before the first."""
        tick: float = _TICK.unpack_from(self._view, _TICK_AT)[0]
        return tick

    def started(self) -> list[str]:
        """Return the fields of the jobs that were started and have not ended, in the order of their slots."""
        fields = (
            _FIELD.unpack_from(self._view, _SLOTS_AT + slot * FIELD_BYTES)[0]
            for slot in range(self.slots)
        )
        return [
            text
            for text in (field.rstrip(b"\0").decode("ascii", "replace") for field in fields)
            if _is_field(text)
        ]


def _is_field(text: str) -> bool:
    """Tell a field from an empty slot, and from what a child with a broken heap may have left there."""
    sequence, dot, number = text.partition(".")
    return dot == "." and sequence.isdecimal() and number.isdecimal()


def _anonymous_file() -> int:
    """Return a descriptor of memory that has no name, so that nothing is left behind when both sides are gone."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("qik-shared")
    import tempfile  # only where memfd is absent: it doubles what a parent imports

    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())
