"""What a running job may know of its run, as `self.context`."""

from __future__ import annotations

from collections.abc import Callable

from qik_core.errors import Cancelled
from qik_core.payload import Payload


class Context:
    """One run of one job."""

    __slots__ = ("_cancelled", "_interrupt", "attempt", "payload")

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
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
