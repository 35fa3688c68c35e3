"""Slow unique jobs over real worker processes: who ran when, and whether two of one key overlapped."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

import redis

from qik_core.definition import Definition
from qik_core.results import Code
from qik_core.store import Chunk, Origin, Store
from tests.integration.shop import NOTES, Shop

APP = (
    NOTES
    + """
import random

class Row(Job, unique_for=600, retry=3):
    '''Holds a file of its key while it runs: the file system is the judge of overlaps.'''

    def run(self, n: int) -> None:
        raise NotImplementedError

    def perform(self, n: int) -> None:
        mine = HERE / f"running-{n}"
        try:
            os.close(os.open(mine, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            note("overlap", n)
        note("start", n)
        seconds = (HERE / "seconds")
        until = time.monotonic() + (random.random() * float(seconds.read_text()) if seconds.exists() else 3600)
        while time.monotonic() < until and not (HERE / "go").exists():
            time.sleep(0.01)
        mine.unlink(missing_ok=True)
        note("end", n)
"""
)

# What may stay when nothing is left to do: totals, the epoch with its locks, names, and what a TTL ends.
_STAYS = (b"stat:", b"qik:n:", b"qik:counts", b"qik:epoch", b"queues", b"qik:sent:", b"qik:roll")
_METRICS = re.compile(rb"j\|.*|h\|.*|\w+-\d\d-\d\d:\d+")
_LIVES = (b"processes", b"qik:alive", b"qik:working:", b"qik:idle:", b"qik:wake:")


class Rows(Shop):
    """A shop whose jobs are `Row`, with pushes from this process: at once, without a start of Python."""

    def __init__(self, folder: Path, url: str, definition: Definition) -> None:
        super().__init__(folder, url, APP)
        self._store = Store(url)
        self._definition = definition

    def edge(self, numbers: Iterable[int]) -> list[Code]:
        """Push as an application."""
        rows = [(number,) for number in numbers]
        built = self._definition.build(rows, time.time())
        unique = self._definition.unique
        assert unique is not None
        chunk = Chunk(
            queue="default",
            jids=built.jids,
            payloads=built.payloads,
            digests=built.digests,
            seconds=unique.seconds,
            until=unique.until,
            origin=Origin.EDGE,
        )
        return list(self._store.push(chunk).codes)

    def last(self, seconds: float) -> None:
        """Let each run take up to so many seconds, by chance, instead of waiting for `go`."""
        (self.folder / "seconds").write_text(str(seconds))

    def generation(self) -> bytes:
        return b"qik:unique:" + self._store.look().generation.encode()

    def close(self) -> None:
        super().close()
        self._store.close()


def locks(raw: redis.Redis) -> int:
    """How many locks there are, in all generations."""
    return sum(raw.hlen(key) - raw.hexists(key, "#") for key in raw.scan_iter("qik:unique:*"))


def left(raw: redis.Redis, generation: bytes) -> list[bytes]:
    """The names of keys that must not be there when nothing is left to do and workers are idle."""
    identities = [name for name in raw.smembers("processes") if isinstance(name, bytes)]
    return [
        name
        for name in raw.scan_iter()
        if not name.startswith((*_STAYS, *_LIVES, *identities))
        and name != generation
        and _METRICS.fullmatch(name) is None
    ]
