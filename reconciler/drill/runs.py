"""The runs of jobs, as the processes of a drill note them; read while they are written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from reconciler.drill.evidence import Run
from reconciler.drill.harness import PREFIX


class Runs:
    """What was noted so far. `began` is when the drill began, in monotonic seconds."""

    def __init__(self, folder: Path, began: float) -> None:
        self._folder = folder
        self._began = began
        self._read: dict[Path, int] = {}
        self._runs: dict[str, Run] = {}
        self.ended_well: set[str] = set()
        """The keys of which a run has ended well."""
        self.parents: dict[int, int] = {}
        """Of each process that runs jobs: which process started it."""

    def look(self) -> None:
        """Read what is new; a line that is half written is left for later."""
        for path in sorted(self._folder.glob(f"{PREFIX}*.jsonl")):
            at = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(at)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read[path] = at + len(whole)
            pid = int(path.stem.removeprefix(PREFIX))
            for line in whole.splitlines():
                self._take(pid, json.loads(line))

    def all(self) -> tuple[Run, ...]:
        """Return every run, in the order of their beginnings."""
        return tuple(sorted(self._runs.values(), key=lambda run: run.started))

    def under_way(self, pid: int | None = None) -> list[Run]:
        """Return the runs without an end: of one process, or of all, the dead ones among them."""
        return [run for run in self._runs.values() if run.ended is None and pid in (None, run.pid)]

    def started_since(self, at: float) -> dict[str, float]:
        """Return the keys of which a run began since then, and when the first of them did."""
        found: dict[str, float] = {}
        for run in self._runs.values():
            if run.started > at:
                found[run.key] = min(run.started, found.get(run.key, run.started))
        return found

    def __len__(self) -> int:
        return len(self._runs)

    def _take(self, pid: int, line: list[Any]) -> None:
        event, number, *rest = line
        if event == "process":
            self.parents[pid] = number
        elif event == "begin":
            key, jid, at = rest
            self._runs[number] = Run(key, jid, pid, at - self._began)
        else:
            self._end(number, *rest)

    def _end(self, number: str, outcome: str, at: float) -> None:
        run = replace(self._runs[number], ended=at - self._began, outcome=outcome)
        self._runs[number] = run
        if outcome == "ok" and run.key:
            self.ended_well.add(run.key)
