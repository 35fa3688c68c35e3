"""What becomes of the items of a push: gathered chunk by chunk, while one of them may be on its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from qik_core import tallies
from qik_core.parcels import Parcel, refusal
from qik_core.results import Advanced, Code, Dirtied, Duplicate, Enqueued, Push, Refused
from qik_core.store import Epoch, Sending

_HELD_FULL: Final = "held_full: {} is switched off, and 10,000 jobs or 64 MB of it are held already"


@dataclass(slots=True)
class Answers:
    """What became of the items of a call, in their order."""

    codes: list[Code] = field(default_factory=list)
    jids: list[bytes] = field(default_factory=list)
    """The jids that were given out; empty for a refused item."""
    standing: str = ""
    """After the push of one job: the jid that stands for its key."""
    refused: Refused | None = None
    """The last refusal."""
    epoch: Epoch | None = None
    """As of the last chunk; None when everything was refused."""
    written: int = 0
    """How many items came before the batch that was sent last: all of those are answered."""
    _way: tuple[Parcel, int, Sending] | None = None

    def sent(self, parcel: Parcel, start: int, sending: Sending) -> None:
        """Take note of a chunk that is on its way; `start` is where its batch begins."""
        self._way, self.written = (parcel, start, sending), start

    def land(self) -> Answers:
        """Wait for the answer to what is on its way, if anything is; raises as `Client.send`."""
        if self._way is None:
            return self
        (parcel, start, sending), self._way = self._way, None
        pushed = sending.answer()
        if tallies.current is not None:
            tallies.current.pushed(pushed.codes)
        self._place(parcel, start, pushed.codes)
        self.standing, self.epoch = pushed.jid, pushed.epoch
        return self

    def _place(self, parcel: Parcel, start: int, codes: Sequence[Code]) -> None:
        places = parcel.places
        if isinstance(places, range) and parcel.stop is None:  # as nearly all: in their own order
            self.codes[start + places.start : start + places.stop] = codes
            return
        for place, code in zip(places, codes, strict=True):
            self.codes[start + place] = code
            if code is Code.REFUSED and parcel.stop is not None:
                self.jids[start + place] = b""
                self.refused = refusal(parcel.stop, _HELD_FULL.format(parcel.chunk.held))

    def only(self) -> Push:
        """Return the answer to the push of one job."""
        if self.refused is not None:
            return self.refused
        return answered(self.codes[0], self.standing)


def answered(code: Code, jid: str) -> Push:
    """Return the answer to the push of one job; `jid` stands for its key."""
    if code is Code.ENQUEUED:
        return Enqueued(jid)
    if code is Code.ADVANCED:
        return Advanced(jid)
    if code is Code.DIRTIED:
        return Dirtied(jid)
    return Duplicate(jid, code)
