"""Two small threads that look after a process of reconcilers: its leases, and the life of Redis.

The keeper renews what is held and takes what is free. The watcher looks at Redis: when data was lost, every pass has to
run now.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

from qik_core.errors import QikError
from reconciler.lease import Change, Leases
from reconciler.ledger import Ledger
from reconciler.lost import Noticed
from reconciler.periodic import Periodic
from reconciler.watch import EVERY, Watch

log: Final = logging.getLogger("reconciler")

_PRUNE: Final = 3600.0


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
    """Looks at Redis; `lost` is called when data was lost, `back` when Redis answers again: whether it is another server."""

    def __init__(
        self, watch: Watch, lost: Callable[[Noticed], None], back: Callable[[bool], None]
    ) -> None:
        self._watch = watch
        self._lost = lost
        self._back = back
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
            noticed = self._watch.witness()
        except QikError:
            self._away = self._away or monotonic()
            raise
        away, self._away = self._away, None
        if noticed is not None:
            log.warning("every pass runs now: %s", noticed.text, extra={"epoch": noticed.loss})
            self._lost(noticed)
        elif away is not None:
            self._back(self._watch.moved)
