"""What goes wrong in a test because of the test, not because of a job.

QikError
└── MisusedMode          a mode inside another, a call without a mode, or after its end
    ├── NothingEnqueued  `perform_one` with nothing to perform
    ├── Unending         `drain` performs more and more jobs
    └── JobsFailed       `drain` of `real()` met jobs that did not end well
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qik_core.errors import QikError
from qik_core.payload import Payload


class MisusedMode(QikError):
    """A testing mode was used as it cannot be. The message says which one, and what to do."""


class NothingEnqueued(MisusedMode):
    """There is no such job to perform. The message lists those that there are."""


class Unending(MisusedMode):
    """Jobs push jobs without an end. The message names the last one."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One job that did not end well."""

    job: Payload
    """As it was fetched."""
    error: BaseException | None
    """What it raised; None when it never began: an unknown class, or arguments that do not fit."""
    said: str
    """One line about it."""


class JobsFailed(MisusedMode):
    """Jobs did not end well while a real worker's loop drained the queues; they wait in the retry set or are dead.

    `failures` has them in order; the first one's error is the cause.
    """

    def __init__(self, failures: Sequence[Failure]) -> None:
        self.failures = tuple(failures)
        lines = "\n".join(f"  {each.said}" for each in failures[:20])
        super().__init__(
            f"{len(failures)} of the drained jobs did not end well (drain(check=False) lets them):\n{lines}"
        )
