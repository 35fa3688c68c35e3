"""When each told job becomes due: spread over a window, and at the same instant however often a row is told.

An instant is `hash × window` within windows that follow each other for ever, so its delay is `(hash × window - now)
mod window`: a pass that repeats finds the same instant, and a flush in the middle of a window does not make half of the
rows due at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

_SPAN: Final = float(1 << 64)


def delays(
    digests: Sequence[bytes], window: float, now: float, due_in: Sequence[float] | None = None
) -> list[float]:
    """Return the delay in seconds of each job, in [0, window). `now` is the database's time in epoch seconds.

    A digest stands for the class and the key of a job. With `due_in` (seconds until each is due) a delay is that long
    and up to `window` longer, never shorter.
    """
    salt = f"{window:.6f}".encode()
    if due_in is None:
        return [(_share(digest, salt) * window - now) % window for digest in digests]
    return [
        due + (_share(digest, salt) * window - now - due) % window
        for digest, due in zip(digests, due_in, strict=True)
    ]


def _share(digest: bytes, salt: bytes) -> float:
    """Return a number in [0, 1) that follows from digest and window."""
    return int.from_bytes(blake2b(digest, digest_size=8, key=salt).digest()) / _SPAN


def rising(delays: Sequence[float]) -> list[int]:
    """Return the places of the delays in rising order: a sorted set takes them in twice as fast so."""
    return sorted(range(len(delays)), key=delays.__getitem__)
