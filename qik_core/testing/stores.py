"""A `Store` on jobs in memory, for a client that knows nothing of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from qik_core.results import Code
from qik_core.store import Chunk, Epoch, Pushed, Sending, Store
from qik_core.testing.errors import MisusedMode
from qik_core.testing.memory import Memory


class _Kept(Sending):
    """What went nowhere and is answered."""

    def __init__(self, pushed: Pushed) -> None:
        self._pushed = pushed

    def answer(self) -> Pushed:
        """Return what became of it."""
        return self._pushed


class MemoryStore(Store):
    """A `Store` whose jobs stay in memory. Whatever would speak to Redis says that there is none.

    `push` does something else with a chunk than to keep it.
    """

    def __init__(
        self,
        memory: Memory,
        mode: str,
        push: Callable[[Chunk], tuple[list[Code], str]] | None = None,
    ) -> None:
        self.url = "memory:"
        self._push = push or memory.push
        self._memory = memory
        self._mode = mode
        self._epoch = Epoch(os.urandom(6).hex(), os.urandom(4).hex(), None, 0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise MisusedMode(
            f"{self._mode} keeps jobs in memory, so there is no Redis to ask ({name}): use real() for that"
        )

    def push(
        self,
        chunk: Chunk,
        *,
        now: Callable[[], float] = time.monotonic,  # noqa: ARG002 - the store's own form
        spent: float = 0.0,  # noqa: ARG002 - as above
    ) -> Pushed:
        """Keep a chunk of jobs, each under its lock. Raises NotEnqueued in a forked process."""
        return self.send(chunk).answer()

    def send(
        self,
        chunk: Chunk,
        *,
        now: Callable[[], float] = time.monotonic,  # noqa: ARG002 - as above
        spent: float = 0.0,  # noqa: ARG002 - as above
    ) -> Sending:
        """Do the same at once; the answer is there already."""
        codes, jid = self._push(chunk)
        return _Kept(Pushed(codes, jid, self._epoch, self._memory.now()))

    def switches(self, version: int, counts: Mapping[str, int]) -> bytes:  # noqa: ARG002 - as above
        """Return nothing: no switch is on in a memory."""
        return b""

    def look(self) -> Epoch:
        """Return the epoch, which is that of this mode."""
        return self._epoch

    def told(
        self, digests: Sequence[bytes], versions: Sequence[bytes] | None = None
    ) -> tuple[list[bool], Epoch]:
        """Say for each key whether a job exists for it."""
        return self._memory.told(digests, versions), self._epoch

    def audit(self, queues: Iterable[str]) -> int:  # noqa: ARG002 - as above
        """Return 0: nobody deletes jobs behind a memory's back."""
        return 0

    def count(self, name: str, number: int) -> None:
        """Add to a total."""
        self._memory.counts[name] += number

    def ask_for_roll(self) -> None:
        """Do nothing: no lock is here without its job."""

    def close(self) -> None:
        """Do nothing: no connection is open."""
