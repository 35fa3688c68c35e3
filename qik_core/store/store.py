"""What every process may ask of Redis: push, look, told, audit. One method, one script.

Retry policy of this module: pushes are sent again until a deadline, since the script knows a call that it has seen;
everything else is asked once, and the caller asks again when it wants to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from qik_core.errors import NotEnqueued, OutcomeUnknown, StoreError, StoreFull, StoreUnavailable
from qik_core.store import keys, switches
from qik_core.store.epoch import Epoch, new_loss
from qik_core.store.link import Links
from qik_core.store.push import MOST, Chunk, Pushed

_UNTOLD: Final = ord("-")
_KNOWN: Final = 25.0  # seconds; the script knows for 30 a call that it has seen: a later one would be a second push
PATIENCE: Final = 3.0
"""Seconds within which a push answers, one way or the other."""


class Candidate:
    """The epoch that a script creates when it finds none. Never the same twice.

    `behind` is the loss id that it replaces where everything is flushed on purpose.
    """

    def __init__(self, birth_ms: int | None = None, *, behind: str = "") -> None:
        self._behind = behind
        self._born = "" if birth_ms is None else str(birth_ms)
        self._loss = ""
        self.text = ""
        self._renew()

    def seen(self, epoch: Epoch) -> Epoch:
        """Take note of an epoch; one that was ours cannot be offered again."""
        if epoch.loss == self._loss:
            self._renew()
        return epoch

    def _renew(self) -> None:
        self._loss = new_loss(self._behind)
        self.text = f"{self._loss} {os.urandom(4).hex()} {self._born}"


class Sending:
    """A chunk on its way to Redis. `answer`, once, says what became of it. Not for two threads at once."""

    def __init__(
        self, store: Store, chunk: Chunk, now: Callable[[], float], patience: float
    ) -> None:
        self._store = store
        self._chunk = chunk
        self._now = now
        self._patience = patience
        self._known_until = now() + _KNOWN
        names, args = chunk.call(store.candidate.text, milliseconds=store.milliseconds)
        self._call = "push", names, args
        self._failed: StoreError | None = None
        self._link = store.links.borrow()
        try:
            self._link.start(*self._call)
        except StoreError as error:
            self._failed = error

    def answer(self) -> Pushed:
        """Wait for the answer, and send the chunk again where none comes, for 3 seconds from now. Raises as `Store.push`."""
        ask, sent, pause = self._first, False, 0.01
        deadline = min(self._now() + self._patience, self._known_until)
        while True:
            try:
                pushed = Pushed.parse(ask())
            except StoreFull as error:
                raise NotEnqueued(f"{error}. Let workers drain it, or raise maxmemory") from None
            except StoreUnavailable as error:
                sent = sent or error.sent
                if self._now() + pause > deadline:
                    raise _given_up(error, self._chunk, sent=sent) from None
                time.sleep(pause)
                pause = min(pause * 2, 0.5)
                ask = self._again
            except StoreError as error:
                raise NotEnqueued(str(error)) from None
            else:
                self._store.candidate.seen(pushed.epoch)
                return pushed

    def _first(self) -> Any:
        try:
            if self._failed is not None:
                raise self._failed
            return self._link.finish()
        finally:
            self._store.links.give(self._link)

    def _again(self) -> Any:
        return self._store.links.run(*self._call)


class Store:
    """Redis, for programs that push and for passes. Safe to use from many threads.

    `birth_ms=0` is for development and tests: a new epoch then holds nothing back at its start.
    """

    def __init__(
        self, url: str, *, milliseconds: bool = False, birth_ms: int | None = None
    ) -> None:
        self.url = url
        self.milliseconds = milliseconds
        self.links = Links(url)
        self.candidate = Candidate(birth_ms)

    def push(
        self,
        chunk: Chunk,
        *,
        now: Callable[[], float] = time.monotonic,
        spent: float = 0.0,
    ) -> Pushed:
        """Put a chunk of jobs into Redis, each under its lock, within 3 seconds, of which the caller has `spent` some.

        Raises:
            NotEnqueued: surely nothing was written.
            OutcomeUnknown: no answer came; the first jid of the chunk names it.
        """
        return self.send(chunk, now=now, spent=spent).answer()

    def send(
        self, chunk: Chunk, *, now: Callable[[], float] = time.monotonic, spent: float = 0.0
    ) -> Sending:
        """Send a chunk as `push` does, and leave its answer for later: Redis works meanwhile."""
        if not 0 < len(chunk.jids) <= MOST:
            raise ValueError(f"a chunk has 1 to {MOST} jobs, this one {len(chunk.jids)}")
        return Sending(self, chunk, now, PATIENCE - spent)

    def switches(self, version: int, counts: Mapping[str, int]) -> bytes:
        """Return the kill switches if they are newer than that version, else nothing; see `Board`. Raises StoreError."""
        return switches.read(self.links.run, version, counts)

    def look(self) -> Epoch:
        """Return the epoch; makes one if there is none. Raises StoreError."""
        text, _ = self.links.run("look", (), (self.candidate.text,))
        return self.candidate.seen(Epoch.parse(text))

    def told(
        self, digests: Sequence[bytes], versions: Sequence[bytes] | None = None
    ) -> tuple[list[bool], Epoch]:
        """Say for each key whether a job exists for it; digests of 22 characters, versions of 6. Raises StoreError."""
        answers: list[bool] = []
        epoch = None
        for start in range(0, len(digests), MOST):
            part = slice(start, start + MOST)
            tags = b"".join(versions[part]) if versions else b""
            states, text = self.links.run(
                "told", (), (self.candidate.text, b"".join(digests[part]), tags)
            )
            answers += [state != _UNTOLD for state in states]
            epoch = self.candidate.seen(Epoch.parse(text))
        return answers, epoch or self.look()

    def audit(self, queues: Iterable[str]) -> int:
        """Return how many of our jobs somebody deleted from these queues and the sorted sets. Raises StoreError."""
        names = [keys.SCHEDULE, keys.RETRY]
        for name in queues:
            names += [keys.queue(name), keys.later(name), keys.suspect(name)]
        missing: int = self.links.run("audit", names)
        return missing

    def count(self, name: str, number: int) -> None:
        """Add to a total that is kept for people; raises StoreError."""
        self.links.run("count", (), (name, number))

    def ask_for_roll(self) -> None:
        """Ask whoever walks next to do so; raises StoreError."""
        self.links.call("SET", keys.ROLL, "1", "EX", 300)

    def close(self) -> None:
        """Drop the connections."""
        self.links.close()


def _given_up(error: StoreError, chunk: Chunk, *, sent: bool) -> StoreError:
    if not sent:
        return NotEnqueued(f"{error}. Nothing was written: push again when Redis is back")
    jid = chunk.jids[0].decode()
    return OutcomeUnknown(
        f"{error}. The job may be in Redis or not: push again with jid={jid!r}", jid
    )
