"""The jobs of the benchmark, the same as Sidekiq's in `peers/sidekiq/jobs.rb`: one small integer, counted in memory."""

from __future__ import annotations

import json
import logging
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from qik_core import Job

QUEUE = "bench"

# No line per job, as Sidekiq's logger at WARN: both write thousands a second otherwise, and that is another measurement.
logging.getLogger("qik_core.jobs").setLevel(logging.WARNING)

_seen: list[str] = []
_sums = [0]
_expected = int(os.environ.get("BENCH_N", "0"))


def report(file: str | Path, **values: Any) -> None:
    """Write values as JSON; renamed into place, so that whoever waits for the file never reads half of it."""
    part = Path(f"{file}.part")
    part.write_text(json.dumps(values))
    part.rename(file)


class Noop(Job, queue=QUEUE, retry=25):
    """Counts that it ran, and says when it was the last."""

    def perform(self, number: int) -> None:
        """Count."""
        _sums[0] += number
        _seen.append(self.context.jid)
        if len(_seen) == _expected:
            report(os.environ["BENCH_DONE"], at=time.monotonic())


class UniqueNoop(Job, queue=QUEUE, retry=25, unique_for=timedelta(hours=1)):
    """The same, under a lock."""

    def perform(self, number: int) -> None:
        """Count."""
        _sums[0] += number
        _seen.append(self.context.jid)
        if len(_seen) == _expected:
            report(os.environ["BENCH_DONE"], at=time.monotonic())


class Count(Job, queue=QUEUE, retry=False):
    """Pushed after the drain: what this process has counted, runs too many included."""

    def perform(self, file: str) -> None:
        """Write the counts into a file."""
        report(file, calls=len(_seen), distinct=len(set(_seen)), sum=_sums[0])
