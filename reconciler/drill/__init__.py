"""The drill: break a Redis in every way that happens, under load, and prove that nothing is lost.

    places → load → course: sample, strike, wait until it has healed → evidence → verdict → report

| module | what it holds |
|---|---|
| `kinds.py`, `evidence.py` | the faults and their names; what was seen, as values |
| `places.py`, `processes.py` | a Redis and a database that may be broken; real commands that end with the drill |
| `service.py`, `harness.py`, `pusher.py`, `load.py` | the application that is drilled, its processes, its rows |
| `rows.py`, `runs.py` | which rows are pending; which jobs ran when |
| `strikes.py`, `course.py` | the faults done; the drill from its first row to its last |
| `verdict.py`, `curve.py`, `page.py`, `report.py` | what was promised against what was seen; as a page for people, as JSON |
"""

from __future__ import annotations
