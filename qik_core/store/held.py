"""Held jobs: of classes that are switched off and that no reconciler tells. Two lists a class, see `store/keys.py`.

What was found on queues is older than what was pushed meanwhile, and is released before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from qik_core.errors import StoreError
from qik_core.store import keys
from qik_core.store.counts import count_of
from qik_core.store.cursors import Call
from qik_core.store.link import Arg, Link

AT_ONCE: Final = 250
"""Jobs that one call releases at the most."""
EVERY_MS: Final = 500
"""Between two calls for one class, whoever makes them."""
_WINDOW: Final = 500
_NAME: Final = re.compile(rb"[\w.:]+", re.ASCII)  # a + ends the name of a second list


class HeldJobs(NamedTuple):
    """What is held of one class; -1 jobs: a key of it holds something else; 0 bytes: somebody spoiled their count."""

    name: str
    jobs: int
    bytes: int


def held(call: Call) -> list[HeldJobs]:
    """Return what is held, class by class. Raises StoreError."""
    pairs = call("HGETALL", keys.HELD)
    sizes = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return [
        HeldJobs(name, _length(call, name), count_of(sizes[name.encode()]))
        for name in _classes(sizes)
    ]


def names(call: Call) -> list[str]:
    """Return the classes of which something is held. Raises StoreError."""
    return _classes(call("HKEYS", keys.HELD))


def lists(name: str) -> tuple[bytes, bytes]:
    """Return the lists of one class, in the order in which they are released."""
    return keys.held(name), keys.held_pushed(name)


def windows(call: Call, key: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Yield a list 500 jobs at a time: where the window begins, from the list's end, and its jobs, next to go first."""
    at, raws = -_WINDOW, [b""]
    while raws:
        raws = call("LRANGE", key, at, at + _WINDOW - 1)
        if raws:
            yield at, raws[::-1]
        at -= _WINDOW


def release(
    link: Link,
    name: str,
    key: bytes,
    at: int | str = "",
    jobs: Sequence[tuple[str, bytes]] = (),
) -> int:
    """Put these jobs of one window on their queues, or, with `!` before its name, with the suspects; says how many.

    Without jobs it forgets a class of which none are held. 0: others have released some of this class just now, or have
    taken these, or a roll is under way. Raises StoreError.
    """
    pairs: list[Arg] = [each for job in jobs for each in job]
    return max(int(link.run("release", (key,), (name, EVERY_MS, at, *pairs))), 0)


def _classes(found: Iterable[bytes]) -> list[str]:
    """Return those that are names of classes, sorted: anybody may write into a hash."""
    return sorted(name.decode() for name in found if _NAME.fullmatch(name))


def _length(call: Callable[..., Any], name: str) -> int:
    try:
        return sum(int(call("LLEN", key)) for key in lists(name))
    except StoreError as error:
        if "WRONGTYPE" not in str(error):
            raise
        return -1
