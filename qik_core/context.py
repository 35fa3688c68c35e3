"""What a running job may know of its run, as `self.context`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from qik_core import rows
from qik_core.errors import Cancelled, QikError
from qik_core.payload import Payload
from qik_core.rows import JobSession, Rows


class Performed(Protocol):
    """What a context knows of the job class: its definition."""

    @property
    def name(self) -> str:
        """The registered name."""

    @property
    def arguments(self) -> Any:
        """Has `names`, those of the parameters."""


class Context:
    """One run of one job."""

    __slots__ = ("_args", "_cancelled", "_interrupt", "_job", "attempt", "payload")

    def __init__(
        self, payload: Payload, job: Performed | None = None, args: Sequence[Any] = ()
    ) -> None:
        self.payload = payload
        self._job = job
        self._args = args
        count = payload.get("retry_count")
        self.attempt: int = count + 2 if type(count) is int and count >= 0 else 1
        """1 for the first run, 2 for the first retry."""
        self._cancelled = False
        self._interrupt: Callable[[], object] | None = None

    @property
    def jid(self) -> str:
        """The job's id."""
        return self.payload.jid

    @property
    def queue(self) -> str:
        """The queue that the job was pushed to."""
        return self.payload.queue

    @property
    def shard(self) -> str:
        """Where the job's row is, as its first parameter `shard` says; empty for a job class without one."""
        names = self._job.arguments.names if self._job is not None else ()
        return str(self._args[0]) if self._args and names[:1] == ("shard",) else ""

    @property
    def row(self) -> Any:
        """The job's row as its reconciler's own select reads it, now; None when it matches no more.

        Raises:
            QikError: no reconciler tells this class, or the row could not be read.
        """
        seam, name = self._seam()
        return seam.row(name, tuple(self._args))

    def session(self) -> JobSession:
        """Return a session on the database of the job's row, for a `with` block, or `async with` in an `async def` job.

        It is committed at the end of the block, and rolled back if that raises.

        Raises:
            QikError: no reconciler tells this class, or none knows the database.
        """
        seam, name = self._seam()
        opened: JobSession = seam.session(name, tuple(self._args))
        return opened

    @property
    def cancelled(self) -> bool:
        """Whether this run is not wanted any more: its result will be dropped."""
        return self._cancelled

    def cancel(self) -> None:
        """Ask the run to stop at its next checkpoint; one on the event loop is cancelled where it waits."""
        self._cancelled = True
        if self._interrupt is not None:
            self._interrupt()

    def when_cancelled(self, interrupt: Callable[[], object]) -> None:
        """Call this, from another thread, when the run is cancelled; at once if it has been."""
        self._interrupt = interrupt
        if self._cancelled:
            interrupt()

    def checkpoint(self) -> None:
        """Stop here if this run is not wanted any more.

        Raises:
            Cancelled: let it through; the job is not failed.
        """
        if self._cancelled:
            raise Cancelled(
                f"job {self.jid} was cancelled: another run holds its key, or somebody cancelled it"
            )

    def _seam(self) -> tuple[Rows, str]:
        seam = rows.known()
        if seam is None or self._job is None:
            name = self.payload.class_name
            raise QikError(
                f"{name}: nothing here knows the row of this job: import the module with its reconciler"
            )
        return seam, self._job.name
