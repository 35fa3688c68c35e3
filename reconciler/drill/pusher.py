"""`python -m reconciler.drill.pusher RATE`: adds rows and pushes the edges of most, so many a second, until TERM.

It is a process of its own, as a web application would be. What its pushes were answered stands in `edges.json`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Final

from qik_core.settings import current
from reconciler.drill import harness
from reconciler.drill.evidence import Edges
from reconciler.drill.load import Load, load_of
from reconciler.engines import Engines

EDGES: Final = "edges.json"
_STEP: Final = 0.25


def main() -> None:
    """Push until TERM."""
    rate, folder = float(sys.argv[1]), Path(os.environ[harness.FOLDER])
    stop = Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    load = load_of(os.environ[harness.APP], Engines(current().databases))
    push(load, rate, stop)
    write(folder, load.edges)


def push(load: Load, rate: float, stop: Event) -> None:
    """Add rows, so many a second; what was missed while a call took long is made up for at once."""
    began, added = monotonic(), 0
    while not stop.wait(_STEP):
        due = int((monotonic() - began) * rate) - added
        if due > 0:
            added += due
            load.steady(due)


def write(folder: Path, edges: Edges) -> None:
    """Leave what the pushes were answered."""
    (folder / EDGES).write_text(json.dumps(asdict(edges)), encoding="utf-8")


def read(folder: Path) -> Edges:
    """Return what the pushes were answered; nothing where the pusher did not come that far."""
    where = folder / EDGES
    return Edges(**json.loads(where.read_text(encoding="utf-8"))) if where.exists() else Edges()


if __name__ == "__main__":
    main()
