"""The drill: break a Redis in every way that happens, under load, and prove that nothing is lost.

    places → load → course: sample, strike, wait until it has healed → evidence → verdict → report

| module | what it holds |
|---|---|
| `kinds.py`, `evidence.py` | the faults and their names; what was seen, as values |
| `places.py`, `addresses.py` | a Redis and a database that may be broken; whether two URLs lead to one |
| `processes.py` | real commands that end with the drill |
| `service.py`, `own.py`, `load.py` | the application that is drilled when none is named; rows, its own and yours |
| `harness.py`, `pusher.py` | what its processes import, which notes each run; the one that pushes edges |
| `rows.py`, `runs.py` | which rows are pending; which jobs ran when |
| `strikes.py`, `course.py` | the faults done, one function each; one after the other, with all that is seen meanwhile |
| `conduct.py` | all of it put together: read `conduct` first |
| `verdict.py`, `curve.py`, `page.py`, `report.py` | what was promised against what was seen; as a page for people, as JSON |
"""

from __future__ import annotations
