"""Held jobs go to their queues when nothing stops them any more: in their order, and not all at once.

Each look takes at most 250 jobs of a class, and half a second lies between two of them, whoever looks: 500 a second. Held
jobs of a class that is stopped as a whole are not even read; those of a class that is stopped in part only, now and then.
"""

from __future__ import annotations

import logging
from typing import Final

from qik_core import hooks
from qik_core.errors import MalformedPayload, StoreError, StoreUnavailable
from qik_core.gate import Gate
from qik_core.payload import Payload
from qik_core.retry import DEATHS, deaths_of
from qik_core.store import held
from qik_core.store.exchange import queue_of
from qik_core.store.link import Link

log: Final = logging.getLogger("qik_core.switches")
_DEATHS: Final = b'"%s":' % DEATHS.encode()
_NEVER: Final = float("inf")
_AGAIN: Final = (
    5.0  # seconds after which jobs that were all found stopped are read again: others may have come
)


class Releaser:
    """Releases for one process. Not for two threads at once."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._stopped: dict[str, tuple[int, float]] = {}
        """Class → version and time of the look that found all its held jobs stopped."""

    def look(self, link: Link) -> float:
        """Release what may go; returns the seconds until the next look is worth it. Raises StoreError."""
        soonest = _NEVER
        names = held.names(link.call)
        for name in names:
            try:
                soonest = min(soonest, self._of_class(link, name))
            except StoreUnavailable:
                raise
            except StoreError as error:
                extra = {"job": name, "error": str(error)}
                log.warning("held jobs of a class could not be released", extra=extra)
            except Exception as error:  # noqa: BLE001 - told; the other classes must not wait behind it
                hooks.defect("release", error)
        self._stopped = {name: self._stopped[name] for name in names if name in self._stopped}
        return soonest

    def _of_class(self, link: Link, name: str) -> float:
        if self._is_stopped(name):
            return _NEVER
        empty = True
        for key in held.lists(name):
            for at, raws in held.windows(link.call, key):
                empty = False
                free = [raw for raw in raws if self._is_free(raw)][: held.AT_ONCE]
                if free:
                    self._release(link, name, key, at, free)
                    return held.EVERY_MS / 1000
        if empty:
            held.release(link, name, held.lists(name)[0])
        else:
            self._stopped[name] = self._gate.board.snapshot.version, self._gate.now()
        return _NEVER

    def _release(self, link: Link, name: str, key: bytes, at: int, raws: list[bytes]) -> None:
        released = held.release(link, name, key, at, [(_home(raw), raw) for raw in raws])
        if released:
            log.info("held jobs released", extra={"job": name, "count": released})

    def _is_stopped(self, name: str) -> bool:
        """Whether reading what is held of a class would find nothing to release."""
        snapshot, now = self._gate.board.snapshot, self._gate.now()
        version, at = self._stopped.get(name, (-1, 0.0))
        if version == snapshot.version and 0 <= now - at < _AGAIN:
            return True
        return snapshot.stop(name, "", now=now) is not None

    def _is_free(self, raw: bytes) -> bool:
        if not self._gate.shut:
            return True
        try:
            return self._gate.stop(Payload.decode(raw), queue_of(raw)) is None
        except MalformedPayload:
            return True  # the run says what is wrong with it


def _home(raw: bytes) -> str:
    """Return where a held job goes: its queue, or its suspects when a process has died while it ran."""
    return ("!" if _DEATHS in raw and _has_died(raw) else "") + queue_of(raw)


def _has_died(raw: bytes) -> bool:
    try:
        return deaths_of(Payload.decode(raw)) > 0
    except MalformedPayload:
        return False
