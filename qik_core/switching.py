"""The seam for `reconciler`'s kill switches: publish them, who has seen them, what they have stopped, what still runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from qik_core import registry
from qik_core.api.processes import Work, WorkSet
from qik_core.client import Client
from qik_core.store import Store, held, switches
from qik_core.store.held import HeldJobs
from qik_core.switches import Snapshot, flag_of_class, flag_of_queue

__all__ = ["HeldJobs", "Running", "Switching"]


@dataclass(frozen=True, slots=True)
class Running:
    """A job that a process says it runs, as of its last beat."""

    identity: str
    name: str
    """The job class, as on the wire."""
    queue: str
    jid: str
    since: datetime | None


class Switching:
    """Kill switches in Redis. Safe to use from many threads.

    All methods raise StoreError: Redis did not answer, or refused.
    """

    _store: Store
    _client: Client

    def switches(self) -> Snapshot:
        """Return the kill switches that this process goes by; looks for newer ones once a second, and never raises."""
        return self._client.look()

    def publish(self, snapshot: Snapshot) -> int:
        """Publish these kill switches, and go by them here; returns the version that stands now.

        A snapshot that is older than what stands changes nothing, nor does one that is not known where one is. Published
        with it: which of the job classes of this process are reconciled.

        Raises:
            BadSnapshot: more than 1 MB of rules; nothing was written.
        """
        seam = (
            self._client.gate.seam()
        )  # alone: what was published before may be reconciled no more
        known = frozenset(filter(seam.reconciled, registry.names()) if seam else ())
        snapshot = replace(snapshot, reconciled=snapshot.reconciled | known)
        raw = snapshot.dump()
        self._client.gate.board.take(snapshot)
        return switches.publish(self._store.links, snapshot.version, raw, known=snapshot.known)

    def switches_seen(self) -> dict[str, int]:
        """Return identity → version of the kill switches, for every living worker process, as of its last beat."""
        return switches.seen(self._store.links)

    def switched_off(self) -> dict[str, int]:
        """Return flag → how many jobs it has dropped or refused since `forget_switched_off`."""
        return switches.stopped(self._store.links)

    def forget_switched_off(self, flag: str) -> int:
        """Return how many jobs a flag has dropped or refused, and begin anew; of many callers one is told."""
        return switches.take_stopped(self._store.links, flag)

    def held(self) -> list[HeldJobs]:
        """Return what is held of each class: its name, jobs and bytes."""
        return held.held(self._store.links.call)

    def running(self, flag: str) -> list[Running]:
        """Return the jobs that a flag of a class or a queue concerns and that run now, as processes last said."""
        return [
            Running(
                each.identity,
                each.job.class_name,
                each.job.location.queue or "",
                each.job.jid,
                each.since,
            )
            for each in WorkSet(self._store)
            if flag in _flags_of(each)
        ]


def _flags_of(work: Work) -> tuple[str, str]:
    definition = registry.find(work.job.class_name)
    name = definition.name if definition else work.job.class_name
    return flag_of_class(name), flag_of_queue(work.job.location.queue or "")
