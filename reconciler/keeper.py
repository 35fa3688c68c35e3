"""Two small threads that look after a process of reconcilers: its leases, and the life of Redis.

The keeper renews what is held and takes what is free. The watcher looks at the epoch: a new loss id means that Redis
has lost its data, and every pass has to run now.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread
from time import monotonic
from typing import Final

from qik_core.errors import QikError
from reconciler.lease import Change, Leases
from reconciler.ledger import Ledger
from reconciler.watch import EVERY, Watch

log: Final = logging.getLogger("reconciler")

_PRUNE: Final = 3600.0


class Periodic:
    """Calls `once` on a thread of its own, again and again; says when it begins to fail and when it works again.

    `pause` is the seconds between two calls, or says them after each.
    """

    def __init__(
        self, name: str, pause: float | Callable[[], float], once: Callable[[], None]
    ) -> None:
        self._name = name
        self._pause = pause
        self._once = once
        self._wake = Event()
        self._stopping = False
        self._failing = False
        self._thread = Thread(target=self._run, name=f"reconciler-{name}", daemon=True)

    def start(self) -> None:
        """Begin; the first call comes at once."""
        self._thread.start()

    def hurry(self) -> None:
        """Have the next call come at once."""
        self._wake.set()

    def stop(self, seconds: float) -> bool:
        """End after the call under way; False if that did not come in time."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                self._once()
            except QikError as error:
                if not self._failing:
                    log.warning("%s fails", self._name, extra={"error": str(error)})
                self._failing = True
            except Exception:  # this thread must outlive whatever a driver may raise
                log.exception("%s fails", self._name)
                self._failing = True
            else:
                if self._failing:
                    log.info("%s works again", self._name)
                self._failing = False
            if not self._stopping:
                self._wake.wait(self._pause() if callable(self._pause) else self._pause)


class Keeper:
    """Keeps the leases of one process; `changed` hears of every lease that was taken or lost.

    `fit` says whether this process could do the work. One that cannot reach Redis leaves it to those that can.
    """

    def __init__(
        self,
        leases: Leases,
        ledger: Ledger,
        poll: float,
        changed: Callable[[Change], None],
        fit: Callable[[], bool] = lambda: True,
    ) -> None:
        self._leases = leases
        self._ledger = ledger
        self._changed = changed
        self._fit = fit
        self._was_fit = True
        self._pruned = monotonic()
        self.thread = Periodic("keeper", lambda: leases.pause(poll), self.once)

    def once(self) -> None:
        """Renew and take; once an hour, forget old passes. Raises SqlUnavailable, NotMigrated."""
        fit = self._fit()
        if self._was_fit and not fit:
            log.warning("leases are left to others: Redis cannot be reached from here")
        self._was_fit = fit
        change = self._leases.renew(fit=fit)
        if change.taken or change.lost or change.given:
            self._changed(change)
        if monotonic() - self._pruned > _PRUNE:
            self._pruned = monotonic()
            self._ledger.prune()


class Watcher:
    """Looks at the epoch of Redis; `lost` is called when the data was lost, `back` when Redis answers again."""

    def __init__(self, watch: Watch, lost: Callable[[], None], back: Callable[[], None]) -> None:
        self._watch = watch
        self._lost = lost
        self._back = back
        self._known: str | None = None
        self._away: float | None = None
        self.thread = Periodic("watcher", EVERY, self.once)

    @property
    def away(self) -> float:
        """The seconds for which Redis has not answered; 0 while it does."""
        since = self._away
        return 0.0 if since is None else monotonic() - since

    def once(self) -> None:
        """Look. Raises StoreError."""
        try:
            loss = self._watch.look()
        except QikError:
            self._away = self._away or monotonic()
            raise
        lost = self._known is not None and loss != self._known
        away, self._known, self._away = self._away, loss, None
        if lost:
            log.warning("redis lost its data, every pass runs now", extra={"epoch": loss})
            self._lost()
        elif away is not None:
            self._back()
