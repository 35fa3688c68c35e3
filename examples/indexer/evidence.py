"""What a demo leaves behind: four files and a manifest, enough to judge the run again without any server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

_FILES = ("settings.json", "rows.jsonl", "effects.jsonl", "faults.jsonl", "end.json")
_MANIFEST = "manifest.json"


class UnusableEvidence(Exception):
    """The folder is not the complete evidence of one demo."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the demo was run."""

    seed: int
    rows: int
    heartbeat: float
    lease: float
    database: str
    server: str
    python: str
    sabotage: str


@dataclass(frozen=True, slots=True)
class Row:
    """One document as the demo left it."""

    id: int
    path: str
    status: str
    size: int | None
    sha256: str | None
    words: int | None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the job. Times are seconds of the machine's monotonic clock."""

    run: str
    document_id: int
    jid: str
    pid: int
    started: float
    ended: float | None
    applied: bool | None


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to the running system, and how it healed. Times as in `Run`."""

    kind: str
    at: float
    hit: tuple[int, ...]
    """Documents whose job the fault took away, or cut short."""
    running: int
    """Runs that were under way."""
    dead: tuple[int, ...]
    """Processes that it ended with SIGKILL."""
    first: float | None
    """When the first of the documents that were hit was told or run again."""
    healed: float | None
    """When each of them was told or run again, or done."""


@dataclass(frozen=True, slots=True)
class End:
    """What was left when the work was done, and the worst that was seen on the way."""

    copies_before: int
    """Most jobs of one document seen in Redis at once, before anything was deleted."""
    copies_after: int
    """The same, after something was deleted."""
    queued: int
    working: int
    locks: int
    retrying: int
    dead: int
    exits: dict[str, int]
    """Exit code of each process that was asked to stop."""
    seconds: float
    """From the first row to the last."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it."""

    settings: Settings
    rows: list[Row]
    runs: list[Run]
    faults: list[Fault]
    end: End


T = TypeVar("T")


def write(folder: Path, evidence: Evidence) -> None:
    """Write the files, and last the manifest that says they are complete."""
    _write_lines(folder / "rows.jsonl", evidence.rows)
    _write_lines(folder / "effects.jsonl", evidence.runs)
    _write_lines(folder / "faults.jsonl", evidence.faults)
    _write_lines(folder / "settings.json", [evidence.settings])
    _write_lines(folder / "end.json", [evidence.end])
    seal(folder)


def seal(folder: Path) -> None:
    """Write the manifest: the SHA-256 of each file."""
    digests = {name: _digest(folder / name) for name in _FILES}
    (folder / _MANIFEST).write_text(json.dumps(digests, indent=1) + "\n")


def read(folder: Path) -> Evidence:
    """Return the evidence in a folder.

    Raises:
        UnusableEvidence: a file is missing, was changed after it was written, or has other fields.
    """
    _check_seal(folder)
    try:
        return Evidence(
            settings=_only(folder / "settings.json", Settings),
            rows=list(_read_lines(folder / "rows.jsonl", Row)),
            runs=list(_read_lines(folder / "effects.jsonl", Run)),
            faults=[_tuples(fault) for fault in _read_lines(folder / "faults.jsonl", Fault)],
            end=_only(folder / "end.json", End),
        )
    except (ValueError, TypeError) as error:
        raise UnusableEvidence(f"{folder}: {error}. Run the demo again.") from error


def _check_seal(folder: Path) -> None:
    try:
        digests = json.loads((folder / _MANIFEST).read_text())
        changed = [name for name in _FILES if digests.get(name) != _digest(folder / name)]
    except (OSError, ValueError, AttributeError) as error:
        raise UnusableEvidence(
            f"{folder} is not the evidence of a demo that ended: {error}"
        ) from error
    if changed:
        raise UnusableEvidence(
            f"{folder}: {', '.join(changed)} changed after it was written. Run the demo again."
        )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_lines(path: Path, items: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(asdict(item)) + "\n" for item in items), encoding="utf-8")


def _read_lines(path: Path, kind: type[T]) -> Iterator[T]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield kind(**_checked(path, json.loads(line), kind))


def _checked(path: Path, values: Mapping[str, Any], kind: type[Any]) -> Mapping[str, Any]:
    expected = {field.name for field in fields(kind)}
    if set(values) != expected:
        raise ValueError(f"{path.name} should have {sorted(expected)}, has {sorted(values)}")
    return values


def _only(path: Path, kind: type[T]) -> T:
    items = list(_read_lines(path, kind))
    if len(items) != 1:
        raise ValueError(f"{path.name} should have one line, has {len(items)}")
    return items[0]


def _tuples(fault: Fault) -> Fault:
    values = asdict(fault)
    return Fault(**{**values, "hit": tuple(values["hit"]), "dead": tuple(values["dead"])})
