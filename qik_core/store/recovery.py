"""What one process does for another that has died: fence it, then put its jobs back, one script each step.

A kill in the middle is repeatable: what was fenced stays fenced, and jobs stay in `qik:recovering:<identity>` until each
has moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from qik_core.store import keys
from qik_core.store.cursors import keys_like
from qik_core.store.exchange import Fetched
from qik_core.store.link import Arg, Link, Links
from qik_core.store.store import Candidate
from qik_core.store.worker import read_jobs

SURE: Final = b"sure"
"""For `fence`: the caller has seen the end of the process, as its parent does."""
NO_BEAT: Final = b"-"
_STEP: Final = 100
_PAGE: Final = 1000
_HOLDERS: Final = b"qik:[rw]*:*"  # working and recovering hashes; what else matches is filtered


class Home(StrEnum):
    """Where a job goes that its process cannot run any more."""

    QUEUE = "q"  # next to be fetched
    SUSPECTS = "s"  # a process has died under it: it runs alone from now on


class Census:
    """Who may hold jobs, and when each was last heard of. One per process that looks.

    `qik:alive` names nearly everybody. A working hash whose process is missing there (somebody deleted it) is found by a
    slow SCAN, a page a look: a database may hold millions of keys of others.
    """

    def __init__(self) -> None:
        self._cursor = b"0"
        self._found: set[str] = set()
        self._finding: set[str] = set()

    def look(self, link: Link) -> dict[str, bytes]:
        """Return every process that is known of, with its last beat as Redis writes it (`-` without one)."""
        self._cursor, names = link.call("SCAN", self._cursor, "MATCH", _HOLDERS, "COUNT", _PAGE)
        self._finding.update(filter(None, map(_identity, names)))
        if self._cursor == b"0":
            self._found, self._finding = self._finding, set()
        beats = dict.fromkeys(self._found | self._finding, NO_BEAT)
        rows = link.call("ZRANGE", keys.ALIVE, 0, -1, "WITHSCORES")
        pairs = zip(rows[::2], rows[1::2], strict=True)
        return beats | {name.decode("utf-8", "replace"): beat for name, beat in pairs}


def holds_something(link: Link, identity: str) -> bool:
    """Whether there is anything of this process to fence or to recover."""
    if link.call("EXISTS", keys.recovering(identity)):
        return True
    mark, beat = (
        link.call("HGET", keys.working(identity), "#"),
        link.call("ZSCORE", keys.ALIVE, identity),
    )
    return mark != b"fenced" and (
        beat is not None or link.call("EXISTS", keys.working(identity)) == 1
    )


def fence(link: Link, identity: str, beat: bytes) -> bool:
    """Shut a process out if its last beat is still this one; False when it has beaten since."""
    names = (
        keys.working(identity),
        keys.recovering(identity),
        keys.process(identity),
        keys.work(identity),
    )
    return bool(link.run("fence", names, (identity, beat)))


def recover(
    link: Link,
    identity: str,
    candidate: Candidate,
    *,
    home: Callable[[Fetched], tuple[Home, bytes]] = lambda _: (Home.QUEUE, b""),
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Put all jobs of a fenced process back on their queues; says how many.

    `home` says where each goes, and as which bytes; empty for the same.
    """
    key, total = keys.recovering(identity), 0
    while fields := [name for name in link.call("HKEYS", key) if name not in (b"#", b"@")]:
        for start in range(0, len(fields), _STEP):
            jobs = read_jobs(link, key, fields[start : start + _STEP])
            args: list[Arg] = [candidate.text, keys.holder(identity), "1"]
            for job in jobs:
                place, payload = home(job)
                args += (place.value, job.field, job.queue, payload)
            total += link.run("giveback", (key,), args)[3]
            progress(total)
    link.run("giveback", (key,), (candidate.text, keys.holder(identity), "1"))
    return total


def holders(link: Link) -> list[bytes]:
    """Return the working hashes of all processes, also of those that only have a recovering one, for the end of a roll."""
    found = {_identity(key) for key in keys_like(link.call, _HOLDERS)} - {""}
    return [keys.working(identity) for identity in sorted(found)]


def _identity(key: bytes) -> str:
    for prefix in (keys.WORKING_PREFIX, keys.RECOVERING_PREFIX):
        if key.startswith(prefix):
            return key[len(prefix) :].decode("utf-8", "replace")
    return ""


def tally(link: Link | Links) -> Mapping[str, int]:
    """Return what was counted: superseded, malformed, deleted by hand, locks without a job."""
    pairs = link.call("HGETALL", keys.COUNTS)
    return {name.decode(): int(value) for name, value in zip(pairs[::2], pairs[1::2], strict=True)}
