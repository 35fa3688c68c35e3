"""Everything that this package raises on purpose.

QikError
├── DefinitionError      a job class or an option that cannot work; raised at import
├── SettingsError        a setting that cannot work; says where it came from
├── ArgumentError        an argument that cannot travel; raised before anything is written
├── HookFailed           a function for the event startup raised; the worker does not start
├── WorkerRunning        this process has an embedded worker already
├── UnknownJob           no imported module defines a job of this name
├── MalformedPayload     bytes found in Redis that are not a job
├── FilterError          a filter over jobs that cannot be read
├── BadSnapshot          bytes that are no snapshot of kill switches, or too many of them
├── Cancelled            raised inside a job, at its own checkpoint
├── JobTimeout           raised inside a job that takes longer than its timeout
├── PoisonousJob         written into a dead job under which processes died; never raised
└── StoreError           Redis did not do what was asked
    ├── WrongType        a key of ours holds something else: somebody wrote it
    ├── NotEnqueued      surely nothing was written
    ├── OutcomeUnknown   the answer was lost: push again with the same jid
    └── StoreUnavailable Redis cannot be reached, or refuses work for now
        └── StoreFull    Redis is at maxmemory: only pushes are refused
"""

from __future__ import annotations


class QikError(Exception):
    """The root of this package's errors."""


class DefinitionError(QikError):
    """A job class, an option or a reconciler that cannot work as it is written."""


class SettingsError(QikError):
    """A setting that cannot work. The message names its origin and the remedy."""


class ArgumentError(QikError, TypeError):
    """An argument that cannot travel. Nothing was written.

    The message names the job class, the argument's path (`args[1].user.id`), the type that was found, and the remedy.
    """


class HookFailed(QikError):
    """A function for the event startup raised. The worker does not start; the cause is what was raised."""


class WorkerRunning(QikError):
    """This process has an embedded worker already: there is one at a time."""


class UnknownJob(QikError):
    """No imported module defines a job of this name."""


class MalformedPayload(QikError):
    """Bytes found in Redis that are not a job. The job is set aside with its raw bytes."""


class FilterError(QikError, ValueError):
    """A filter over jobs that cannot be read. The message shows where, and what to write."""


class BadSnapshot(QikError, ValueError):
    """Bytes that are no snapshot of kill switches; or more switches than one snapshot holds."""


class Cancelled(QikError):
    """This run is not wanted any more; raised by `self.context.checkpoint()`."""


class JobTimeout(QikError):
    """A run took longer than its job's `timeout`. The job is failed and retried as after any other error."""


class PoisonousJob(QikError):
    """Several processes died while they ran this job: it is dead."""


class StoreError(QikError):
    """Redis did not do what was asked."""


class WrongType(StoreError):
    """A key of ours holds another type of value: somebody else wrote it. The message names the key and the remedy."""


class NotEnqueued(StoreError):
    """The job is surely not in Redis. Pushing again is safe."""


class OutcomeUnknown(StoreError):
    """No answer came in time: the job may be in Redis or not.

    Pushing again with `jid=error.jid` within 30 s cannot make a second copy.
    """

    def __init__(self, message: str, jid: str) -> None:
        super().__init__(message)
        self.jid = jid


class StoreUnavailable(StoreError):
    """Redis cannot be reached, or refuses work for now (loading, read-only, full).

    `sent` says whether the call may have been carried out all the same: its bytes had left when the link broke.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class StoreFull(StoreUnavailable):
    """Redis is at maxmemory and refused the write. Workers go on draining it."""
