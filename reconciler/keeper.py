"""Two small threads that look after a process of reconcilers: its leases, and the life of Redis.

The keeper renews what is held and takes what is free. The watcher looks at the epoch: a new loss id means that Redis
has lost its data, and every pass has to run now.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

from qik_core.errors import QikError
from reconciler.lease import Change, Leases
from reconciler.ledger import Ledger
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
