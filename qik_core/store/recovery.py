"""What one process does for another that has died: fence it, then put its jobs back, one script each step.

A kill in the middle is repeatable: what was fenced stays fenced, and jobs stay in `qik:recovering:<identity>` until each
has moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from qik_core.store import keys
from qik_core.store.exchange import Fetched
from qik_core.store.link import Arg, Link
from qik_core.store.store import Candidate
from qik_core.store.worker import read_jobs

SURE: Final = b"sure"
"""For `fence`: the caller has seen the end of the process, as its parent does."""
NO_BEAT: Final = b"-"
_STEP: Final = 100


def beats(link: Link) -> dict[str, bytes]:
    """Return every process that may hold jobs, with its last beat as Redis writes it (`-` without one)."""
    found: dict[str, bytes] = {}
    for prefix in (keys.WORKING_PREFIX, keys.RECOVERING_PREFIX):
        found |= {key[len(prefix) :].decode(): NO_BEAT for key in _scan(link, prefix)}
    rows = link.call("ZRANGE", keys.ALIVE, 0, -1, "WITHSCORES")
    found |= {identity.decode(): beat for identity, beat in zip(rows[::2], rows[1::2], strict=True)}
    return found


def is_fenced(link: Link, identity: str) -> bool:
    """Whether a process was shut out already and nothing of it is left to recover."""
    mark = link.call("HGET", keys.working(identity), "#")
    return mark == b"fenced" and not link.call("EXISTS", keys.recovering(identity))


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
    rewrite: Callable[[Fetched], bytes] = lambda _: b"",
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Put all jobs of a fenced process back on their queues; says how many.

    `rewrite` may return another payload for a job, empty for the same bytes.
    """
    key, total = keys.recovering(identity), 0
    while fields := [name for name in link.call("HKEYS", key) if name not in (b"#", b"@")]:
        for start in range(0, len(fields), _STEP):
            jobs = read_jobs(link, key, fields[start : start + _STEP])
            args: list[Arg] = [candidate.text, keys.holder(identity), "1"]
            for job in jobs:
                args += (job.field, job.queue, rewrite(job))
            total += link.run("giveback", (key,), args)[3]
            progress(total)
    link.run("giveback", (key,), (candidate.text, keys.holder(identity), "1"))
    return total


def _scan(link: Link, prefix: bytes) -> Iterator[bytes]:
    cursor = b"0"
    while True:
        cursor, found = link.call("SCAN", cursor, "MATCH", prefix + b"*", "COUNT", 1000)
        yield from found
        if cursor == b"0":
            return


def holders(link: Link) -> list[bytes]:
    """Return the working and recovering hashes that exist, for the end of a roll."""
    return [*_scan(link, keys.WORKING_PREFIX), *_scan(link, keys.RECOVERING_PREFIX)]


def tally(link: Link) -> Mapping[str, int]:
    """Return what was counted: superseded, malformed, deleted by hand, locks without a job."""
    pairs = link.call("HGETALL", keys.COUNTS)
    return {name.decode(): int(value) for name, value in zip(pairs[::2], pairs[1::2], strict=True)}
