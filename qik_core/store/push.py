"""What goes into one call of `push.lua`, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from qik_core.payload import Until
from qik_core.results import Code
from qik_core.store import keys
from qik_core.store.epoch import Epoch
from qik_core.store.link import Arg

MOST: Final = 500
"""Jobs that one script handles at the most: Redis serves nobody else meanwhile."""


class Origin(StrEnum):
    """Who pushes: the application, or a pass. A pass neither advances nor dirties (DESIGN: edge and pass)."""

    EDGE = "edge"
    PASS = "pass"


CODES: Final = {
    ord("e"): Code.ENQUEUED,
    ord("q"): Code.DUPLICATE_QUEUED,
    ord("s"): Code.DUPLICATE_SCHEDULED,
    ord("r"): Code.DUPLICATE_RUNNING,
    ord("t"): Code.DUPLICATE_RETRYING,
    ord("a"): Code.ADVANCED,
    ord("d"): Code.DIRTIED,
    ord("h"): Code.REFUSED,
}


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Up to 500 jobs for one queue. The sequences are aligned."""

    queue: str
    jids: Sequence[bytes]
    """All of one length."""
    payloads: Sequence[bytes]
    """Without `enqueued_at` where the job has a time."""
    digests: Sequence[bytes] | None = None
    """22 characters each; None: no locks."""
    seconds: int = 0
    """`unique_for`."""
    until: Until = "success"
    origin: Origin = Origin.EDGE
    delays: Sequence[float] | None = None
    """Seconds from the server's now."""
    due: Sequence[float] | None = None
    """Epoch seconds; what is past goes on the queue at once."""
    versions: Sequence[bytes] | None = None
    """Row versions, 6 characters each."""
    held: str = ""
    """The class, when it is switched off: what has no time is held, and REFUSED when too many are."""

    def call(self, candidate: str, *, milliseconds: bool) -> tuple[Sequence[bytes], Sequence[Arg]]:
        """Return the keys and arguments of `push.lua`."""
        timed = keys.later(self.queue) if self.origin is Origin.PASS else keys.SCHEDULE
        args: list[Arg] = [
            candidate,
            ("p" if self.origin is Origin.PASS else "e") + self._distinct(),
            self.queue,
            len(self.jids),
            self.seconds if self.digests else 0,
            b"".join(self.digests or ()),
            b"".join(self.jids),
            b"".join(self.versions or ()),
            self._times(),
            "1" if milliseconds else "",
            self.held,
            *self.payloads,
        ]
        return (keys.sent(self.jids[0].decode()), timed), args

    def _distinct(self) -> str:
        different = self.digests is None or len(set(self.digests)) == len(self.digests)
        return "d" if different else ""

    def _times(self) -> str:
        if self.delays is not None:
            return "d" + " ".join([f"{delay:.6f}" for delay in self.delays])
        if self.due is not None:
            return "a" + " ".join([f"{at:.6f}" for at in self.due])
        return ""


class Pushed(msgspec.Struct, frozen=True):
    """What `push.lua` answered: a code per job, in order."""

    codes: Sequence[Code]
    jid: str
    """The jid that stands for the last job's key: its own, or that of the job which was there before."""
    epoch: Epoch
    time: float
    """The server's clock, epoch seconds."""

    @classmethod
    def parse(cls, reply: Sequence[bytes]) -> Pushed:
        """Return the answer in a reply of the script."""
        codes, epoch, time, jid = reply
        new = codes.count(b"e") == len(codes)  # as nearly always
        told = [Code.ENQUEUED] * len(codes) if new else [CODES[code] for code in codes]
        return cls(told, jid.decode(), Epoch.parse(epoch), float(time))
