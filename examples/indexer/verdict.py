"""The judge: decides from the evidence and the files themselves, and asks no server."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from examples.indexer.documents import describe
from examples.indexer.evidence import End, Evidence, Fault, Row, Run
from examples.indexer.models import Status

KINDS = ("flush", "lists", "child", "commit", "host")
"""Every demo has one fault of each kind."""
_SHOWN = 3
_POCKET = 1.0
"""Seconds in which a job that was fetched before the flush may still start: then its process has noticed."""
_TOLD = 2.0
_START = 3.0
"""Seconds from a flush to the next enqueue, and, beyond a heartbeat, to the next start."""
_COPIES = 1
_COPIES_AFTER = 2
"""Most jobs of one row at once: until something is deleted, and from then on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the verdict."""

    what: str
    value: str
    good: bool
    detail: str = ""


def judge(evidence: Evidence) -> list[Finding]:
    """Return every line of the verdict, good and bad."""
    dead = _deaths(evidence.faults)
    return [
        *_rows(evidence.rows, evidence.settings.rows),
        _hashes(evidence.rows),
        _effects(evidence.rows, evidence.runs),
        _overlaps(evidence.runs, dead),
        _open_runs(evidence.runs, dead),
        _known(evidence.rows, evidence.runs),
        *(_fault(kind, evidence.faults) for kind in KINDS),
        _flush(evidence),
        _guard(evidence.runs, evidence.faults),
        *_end(evidence.end),
    ]


def sound(findings: Iterable[Finding]) -> bool:
    """Return whether nothing is off."""
    return all(finding.good for finding in findings)


def _rows(rows: list[Row], expected: int) -> list[Finding]:
    done = sum(row.status == Status.DONE for row in rows)
    lost = [row.path for row in rows if row.status != Status.DONE]
    return [
        Finding("rows done", f"{done} / {expected}", done == expected == len(rows)),
        Finding("lost", str(expected - done), not lost and done == expected, _some(lost)),
    ]


def _hashes(rows: list[Row]) -> Finding:
    wrong = [row.path for row in rows if row.status == Status.DONE and not _true(row)]
    value = f"{len(rows) - len(wrong)} / {len(rows)}"
    return Finding("files that hash as stored", value, not wrong, _some(wrong))


def _true(row: Row) -> bool:
    try:
        found = describe(Path(row.path).read_bytes())
    except OSError:
        return False
    return (found.size, found.sha256, found.words) == (row.size, row.sha256, row.words)


def _effects(rows: list[Row], runs: list[Run]) -> Finding:
    applied = Counter(run.document_id for run in runs if run.applied)
    done = {row.id for row in rows if row.status == Status.DONE}
    wrong = [
        f"document {key}: {applied[key]}"
        for key in sorted(done | set(applied))
        if applied[key] != 1
    ]
    again = sum(run.applied is False for run in runs)
    value = (
        f"1 each, {again} repeats withheld by the guard" if not wrong else f"{len(wrong)} rows off"
    )
    return Finding("effects per row", value, not wrong, _some(wrong))


def overlapping(runs: Iterable[Run], dead: Mapping[int, float]) -> list[tuple[Run, Run]]:
    """Return pairs of runs of one document that were under way at the same time, both processes alive.

    `dead` maps a pid to the moment of its death: a run without an end ended there.
    """
    by_document: dict[int, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.started):
        by_document[run.document_id].append(run)
    return [
        (first, second)
        for group in by_document.values()
        for first, second in _conflicts(group, dead)
    ]


def _conflicts(group: list[Run], dead: Mapping[int, float]) -> Iterable[tuple[Run, Run]]:
    longest = group[0]
    for run in group[1:]:
        if run.started < _end_of(longest, dead):
            yield longest, run
        if _end_of(run, dead) > _end_of(longest, dead):
            longest = run


def _end_of(run: Run, dead: Mapping[int, float]) -> float:
    end = run.ended if run.ended is not None else float("inf")
    return min(end, dead.get(run.pid, float("inf")))


def _overlaps(runs: list[Run], dead: Mapping[int, float]) -> Finding:
    pairs = overlapping(runs, dead)
    detail = [
        f"document {first.document_id}: pid {first.pid} and pid {second.pid}, {second.started - first.started:.2f} s apart"
        for first, second in pairs
    ]
    return Finding("overlaps", str(len(pairs)), not pairs, _some(detail))


def _open_runs(runs: list[Run], dead: Mapping[int, float]) -> Finding:
    wrong = [
        f"document {run.document_id} in pid {run.pid}"
        for run in runs
        if run.ended is None and run.started > dead.get(run.pid, float("-inf"))
    ]
    cut = sum(run.ended is None for run in runs) - len(wrong)
    value = f"{len(runs)}, of them {cut} cut short by SIGKILL"
    return Finding("runs", value, not wrong, _some(wrong))


def _known(rows: list[Row], runs: list[Run]) -> Finding:
    ids = {row.id for row in rows}
    strange = [f"run {run.run}" for run in runs if run.document_id not in ids]
    twice = [name for name, count in Counter(run.run for run in runs).items() if count > 1]
    return Finding(
        "runs of no row, or listed twice",
        str(len(strange + twice)),
        not strange + twice,
        _some(strange + twice),
    )


def _deaths(faults: Iterable[Fault]) -> dict[int, float]:
    return {pid: fault.at for fault in faults for pid in fault.dead}


def _fault(kind: str, faults: list[Fault]) -> Finding:
    name = f"fault: {DESCRIPTIONS[kind]}"
    fault = next((fault for fault in faults if fault.kind == kind), None)
    if fault is None:
        return Finding(
            name,
            "did not happen",
            good=False,
            detail="the work was over before its turn: use more rows",
        )
    value = (
        f"hit {len(fault.hit)} rows, {fault.running} running;"
        f" again after {_after(fault.first, fault)}, healed after {_after(fault.healed, fault)}"
    )
    return Finding(name, value, bool(fault.hit) and fault.healed is not None)


DESCRIPTIONS = {
    "flush": "Redis emptied",
    "lists": "queue lists deleted under their locks",
    "child": "kill -9 of a worker's child",
    "commit": "kill -9 between commit and settling",
    "host": "kill -9 of a parent and its child",
}


def _after(moment: float | None, fault: Fault) -> str:
    return "never" if moment is None else f"{moment - fault.at:.1f} s"


def _flush(evidence: Evidence) -> Finding:
    """A flush is promised to be noticed at once, and to hold back starts no longer than a heartbeat and a second."""
    name = "after the flush"
    fault = next((fault for fault in evidence.faults if fault.kind == "flush"), None)
    starts = [run.started for run in evidence.runs if fault and run.started > fault.at + _POCKET]
    if fault is None or fault.first is None or not starts:
        return Finding(name, "nothing was told, or nothing was started", good=False)
    told, started = fault.first - fault.at, min(starts) - fault.at
    latest = evidence.settings.heartbeat + _START
    value = f"told again after {told:.1f} s (promised {_TOLD:.1f}), started after {started:.1f} s (promised {latest:.1f})"
    return Finding(name, value, told <= _TOLD and started <= latest)


def _guard(runs: list[Run], faults: list[Fault]) -> Finding:
    """The worst moment to die must have been met: after the effect, before anybody was told of it."""
    documents = {key for fault in faults if fault.kind == "commit" for key in fault.hit}
    applied = {run.document_id for run in runs if run.applied}
    again = {run.document_id for run in runs if run.applied is False}
    met = documents & applied & again
    return Finding("runs repeated after their commit", f"{len(met)}, effect withheld", bool(met))


def _end(end: End) -> list[Finding]:
    left = {
        "queued": end.queued,
        "working": end.working,
        "locks": end.locks,
        "retrying": end.retrying,
        "dead": end.dead,
    }
    refused = [f"{name} exited with {code}" for name, code in end.exits.items() if code]
    return [
        Finding(
            "jobs of one row at once",
            f"{end.copies_before}; {end.copies_after} after deletions",
            end.copies_before <= _COPIES and end.copies_after <= _COPIES_AFTER,
        ),
        Finding(
            "left in Redis",
            ", ".join(f"{n} {name}" for name, n in left.items()),
            not any(left.values()),
        ),
        Finding(
            "processes that left cleanly",
            f"{len(end.exits) - len(refused)} / {len(end.exits)}",
            not refused,
            _some(refused),
        ),
    ]


def _some(items: list[str]) -> str:
    more = len(items) - _SHOWN
    return "; ".join(items[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
