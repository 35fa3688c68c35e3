"""Mistakes to plant: each is one that an engine of this kind was seen to make, and the machine must find every one.

A mistake in a script is a piece of its text and what stands there instead; the piece must be there exactly once, so a
script that changes cannot make a mistake vanish in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from qik_core.store import due, keys
from qik_core.store.link import Link
from tests.machine.wire import Replace


def pop_then_push(link: Link, source: bytes, *, milliseconds: bool = False) -> due.Moved:
    """Promote as a Ruby poller does: a job that was popped is nowhere until it is pushed."""
    now = link.call("GET", "machine:clock").split()[0]
    moved = 0
    while raws := link.call("ZRANGE", source, 0, now, "BYSCORE", "LIMIT", 0, 1):
        if link.call("ZREM", source, raws[0]):
            link.call("LPUSH", keys.queue("default"), raws[0])
            moved += 1
    return due.Moved(moved, 0, None)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake: in scripts, or in place of the function that promotes."""

    name: str
    replace: Replace = field(default_factory=dict)
    promote: Callable[..., object] = due.promote
    broken: str = "is nowhere"
    """What the machine must complain of."""


MUTANTS: Final = (
    Mutant(
        "unlocks without asking whose lock it is",
        {
            "exchange": [
                (
                    "if rec and rec:byte(1) == 114 and rec:sub(19) == ARGV[at + i * 3 - 1] then -- r",
                    "if rec then",
                )
            ]
        },
        broken="not by its owner",
    ),
    Mutant("promotes by popping and then pushing", promote=pop_then_push),
    Mutant(
        "settles before the run: what was fetched is in no working hash",
        {"exchange": [('if n > 0 then redis.call("HSET", W.working, unpack(hash)) end', "")]},
    ),
    Mutant(
        "ends a roll before every process has beaten in it",
        {
            "roll_end": [
                (
                    'if (seen[1] or how == "alive") and seen[1] ~= "fenced" and seen[2] ~= E.gen then return -1 end',
                    "",
                )
            ]
        },
        broken="went with the roll",
    ),
    Mutant(
        "does not look at the number of an exchange",
        {
            "exchange": [
                ("if last == seq then return same_again(E, working, seq, tonumber(count)) end", "")
            ]
        },
    ),
)

MORE: Final = (
    Mutant(
        "starts jobs at once after a loss",
        {"exchange": [(" and not (age >= 0 and age < tonumber(ARGV[6]))", "")]},
        broken="two runs of one key",
    ),
    Mutant(
        "lets a pass add a copy when the window is over",
        {"push": [("if job.pass then return state, nil, true end", "")]},
        broken="a push took it",
    ),
    Mutant(
        "promotes without counting",
        {"promote": [('if ours > 0 then redis.call("DECRBY", "qik:n:" .. KEYS[1], ours) end', "")]},
        broken="are counted",
    ),
    Mutant(
        "forgets that an edge came while the job ran",
        {"push": [('"r1" ..', '"r0" ..')]},
        broken="an edge came",
    ),
)
"""Mistakes beyond the five that are asked for: each shows that one more check bites."""
