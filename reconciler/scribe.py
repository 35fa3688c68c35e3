"""Writes down what happens to a process of reconcilers, on a thread of its own: leases, releases, losses of Redis.

What it writes waits while SQL is away: nobody who has something to say waits for that.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from time import monotonic
from typing import Final

from sqlalchemy import Connection, Engine

from qik_core import settings
from qik_core.errors import QikError
from qik_core.passes import Passes
from reconciler import audit
from reconciler.audit import Action
from reconciler.losses import Losses
from reconciler.lost import Noticed
from reconciler.notes import Kind, Notes, Value
from reconciler.periodic import Periodic

log: Final = logging.getLogger("reconciler")

_EVERY: Final = 1.0
_COUNT: Final = 5.0
"""Seconds between two looks at when what waits was counted last."""
_MOST: Final = 1_000
"""Things to write that wait at the most; of more the oldest are dropped."""
_NAMED: Final = 50
_RUN: Final = "run"


def installed() -> str:
    """Return the version of this package; empty where it runs without being installed."""
    with suppress(PackageNotFoundError):
        return version("qik-core")
    return ""


class Scribe:
    """What one process has to write down. `thread` has to be started. Thread-safe.

    What cannot be written now, since SQL or Redis is away, is tried again before all behind it.
    """

    def __init__(self, home: Engine, seam: Passes, holder: str) -> None:
        self._home = home
        self._holder = holder
        self._losses = Losses(home, seam, holder)
        self._waiting: deque[Callable[[], object]] = deque(maxlen=_MOST)
        self._count_at = float("-inf")
        self._terms: dict[str, int] = {}
        self.thread = Periodic("scribe", _EVERY, self.once)

    def begin(self, ours: str) -> None:
        """Note that this process runs, by which release of ours; and look for a loss that nobody has seen."""
        release = settings.current().release or ""
        self._later(lambda: self._deployed(release, ours))
        self._later(self._missed)

    def took(self, terms: Mapping[str, int]) -> None:
        """Note leases that were taken: unit → term; not those that were only late to be renewed."""
        new = {unit: term for unit, term in terms.items() if self._terms.get(unit) != term}
        self._terms.update(new)
        if new:
            self._later(lambda: self._taken(new))

    def lost(self, noticed: Noticed) -> None:
        """Tell of a loss."""
        self._later(lambda: self._losses.announce(noticed))
        self.thread.hurry()

    def once(self) -> None:
        """Write what waits, then count what waits in Redis if it is time. Raises StoreError, SqlUnavailable."""
        while self._waiting:
            act = self._waiting[0]
            self._do(act)
            with suppress(ValueError):  # newer things may have driven it out meanwhile
                self._waiting.remove(act)
        if monotonic() >= self._count_at:
            self._count_at = monotonic() + _COUNT
            self._losses.count()

    def _do(self, act: Callable[[], object]) -> None:
        """Do it, or report why that can never be done: what waits behind it must not wait for ever."""
        try:
            act()
        except QikError:
            raise
        except Exception:  # whatever a driver or a value may raise
            log.exception("the scribe met a defect; it goes on")

    def _later(self, act: Callable[[], object]) -> None:
        self._waiting.append(act)

    def _missed(self) -> None:
        noticed = self._losses.missed()
        if noticed is not None:
            self.lost(noticed)

    def _taken(self, terms: Mapping[str, int]) -> None:
        units = sorted(terms)
        subject = units[0] if len(units) == 1 else f"{len(units)} reconcilers"
        named = {unit: terms[unit] for unit in units[:_NAMED]}
        details = {"units": named, "count": len(units)}
        if len(units) == 1:
            details["term"] = terms[units[0]]
        audit.record(self._home, Action.LEASE_TAKEN, subject, self._holder, "", details)

    def _deployed(self, release: str, ours: str) -> None:
        """Note a release that is another than the one that ran last."""
        now = {"release": release, "version": ours}

        def changed(before: Value, _: float) -> Value | None:
            ran = {name: before.get(name) for name in now}
            return None if ran == now else {**now, "before": ran if before else {}}

        def write(connection: Connection, new: Value) -> None:
            subject, why = release or ours, _ran(new)
            audit.write_down(connection, Action.DEPLOYED, subject, self._holder, why, new)

        if Notes(self._home).change(Kind.RELEASE, _RUN, changed, also=write) is not None:
            log.info("deployed", extra={"release": release or "-", "version": ours})


def _ran(new: Value) -> str:
    """Return which release runs now and which one ran before, for people."""
    before, text = new["before"], f"release {new['release'] or '-'}, version {new['version']}"
    if not before:
        return text
    return f"{text}; before: release {before.get('release') or '-'}, version {before['version']}"
