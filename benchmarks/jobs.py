"""The jobs of the benchmark, the same as Sidekiq's in `peers/sidekiq/jobs.rb`: one small integer, counted in memory."""

from __future__ import annotations

import logging
import os
import time
from datetime import timedelta
from pathlib import Path

from benchmarks import tally
from benchmarks.names import NAP, QUEUE
from qik_core import Job

# No lines per job, as Sidekiq's logger at WARN: both write thousands a second otherwise, and that is a case of its own.
if not os.environ.get("BENCH_LOG"):
    logging.getLogger("qik_core.jobs").setLevel(logging.WARNING)


class Noop(Job, queue=QUEUE, retry=25):
    """Counts that it ran."""

    def perform(self, number: int) -> None:
        """Count."""
        tally.saw(self.context.jid, number)


class UniqueNoop(Job, queue=QUEUE, retry=25, unique_for=timedelta(hours=1)):
    """The same, under a lock."""

    def perform(self, number: int) -> None:
        """Count."""
        tally.saw(self.context.jid, number)


class Nap(Job, queue=QUEUE, retry=25):
    """Takes a millisecond."""

    def perform(self, number: int) -> None:
        """Sleep, and count."""
        time.sleep(NAP)
        tally.saw(self.context.jid, number)


class Stamp(Job, queue=QUEUE, retry=25):
    """Tells how long it has waited."""

    def perform(self, pushed: int) -> None:
        """Compare the clock with that of the push."""
        tally.waited(self.context.jid, pushed)


class Mark(Job, queue=QUEUE, retry=25):
    """Counts in a byte, so that counting takes no memory."""

    def perform(self, number: int) -> None:
        """Count."""
        tally.mark(number)


class Stay(Job, queue=QUEUE, retry=25):
    """Counts at once, and runs until it may end."""

    def perform(self, number: int) -> None:
        """Wait for the file."""
        tally.saw(self.context.jid, number)
        while not Path(os.environ["BENCH_END"]).exists():
            time.sleep(0.02)
