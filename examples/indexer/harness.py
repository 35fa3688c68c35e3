"""The application as the demo runs it: the service, and one middleware that lets a process die at the worst moment."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from examples.indexer import jobs, reconcilers, sabotage
from qik_core import Next, Payload, configure

__all__ = ["jobs", "reconcilers"]

_CRASH = Path(os.environ["INDEXER_CRASH"])


def die_after_commit(job: Payload, call_next: Next[None]) -> None:
    """Die between the commit of a job and its settling, if the demo has asked this process to."""
    call_next(job)
    if _CRASH.exists() and _CRASH.read_text() == str(os.getpid()):
        _die(job.args[0])


def _die(document_id: int) -> None:
    taken = _CRASH.with_suffix(".taken")
    try:
        _CRASH.rename(taken)  # one thread wins
    except FileNotFoundError:
        return
    taken.write_text(json.dumps({"document_id": document_id, "at": time.monotonic()}))
    taken.rename(_CRASH.with_suffix(".done"))
    os.kill(os.getpid(), signal.SIGKILL)


sabotage.apply(os.environ["INDEXER_SABOTAGE"])
configure(server_middleware=[die_after_commit])
