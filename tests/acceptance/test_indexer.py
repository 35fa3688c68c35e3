"""The demo's judge and its input: whatever is wrong with a run, the verdict says so and says where."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from examples.indexer import evidence, sabotage
from examples.indexer.commands import main
from examples.indexer.documents import describe
from examples.indexer.evidence import (
    End,
    Evidence,
    Fault,
    Row,
    Run,
    Settings,
    UnusableEvidence,
)
from examples.indexer.files import LARGE, TooFewFiles, choose
from examples.indexer.plan import plan
from examples.indexer.verdict import KINDS, Finding, judge, sound

DEAD = 4242
CUT = 7.0
"""When the process DEAD died."""


@pytest.fixture
def good(tmp_path: Path) -> Evidence:
    """Two rows: one done in one run, the other also in a run after a process died behind its commit."""
    rows = [_row(number, tmp_path / f"{number}.py") for number in (1, 2)]
    runs = [
        Run("a", 1, "j1", 10, 1.0, 2.0, applied=True),
        Run("b", 2, "j2", DEAD, 5.0, 6.0, applied=True),
        Run("c", 2, "j2", 10, 8.5, 9.0, applied=False),
        Run("d", 1, "j3", DEAD, 6.5, None, applied=None),
    ]
    faults = [
        Fault(kind, CUT, (1, 2), 1, (DEAD,) if kind == "commit" else (), 7.5, 8.0) for kind in KINDS
    ]
    end = End(1, 2, 0, 0, 0, 0, 0, {"worker-1": 0}, 20.0)
    settings = Settings(1, 2, 0.5, 3.0, "sqlite", "redis 7", "3.11", "")
    return Evidence(settings, rows, runs, faults, end)


def _row(number: int, path: Path) -> Row:
    path.write_bytes(b"two words\n" * number)
    found = describe(path.read_bytes())
    return Row(number, str(path), "done", found.size, found.sha256, found.words)


def _off(found: Evidence) -> list[Finding]:
    return [finding for finding in judge(found) if not finding.good]


def test_a_run_without_a_flaw_is_sound(good: Evidence) -> None:
    assert _off(good) == []
    assert sound(judge(good))


def _first_row(found: Evidence, **changes: Any) -> Evidence:
    return replace(found, rows=[replace(found.rows[0], **changes), *found.rows[1:]])


def _run(found: Evidence, name: str, **changes: Any) -> Evidence:
    runs = [replace(run, **changes) if run.run == name else run for run in found.runs]
    return replace(found, runs=runs)


def _end(found: Evidence, **changes: Any) -> Evidence:
    return replace(found, end=replace(found.end, **changes))


FLAWS: dict[str, tuple[Callable[[Evidence], Evidence], str]] = {
    "a row that is not done": (lambda e: _first_row(e, status="pending"), "lost"),
    "a row that is not there": (lambda e: replace(e, rows=e.rows[1:]), "lost"),
    "a hash that is not the file's": (
        lambda e: _first_row(e, sha256="0" * 64),
        "files that hash as stored",
    ),
    "a file that is gone": (
        lambda e: _first_row(e, path=e.rows[0].path + ".gone"),
        "files that hash as stored",
    ),
    "a word count that is not the file's": (
        lambda e: _first_row(e, words=7),
        "files that hash as stored",
    ),
    "an effect that happened twice": (lambda e: _run(e, "c", applied=True), "effects per row"),
    "an effect that nobody had": (lambda e: _run(e, "a", applied=False), "effects per row"),
    "two runs of one row at the same time": (lambda e: _run(e, "c", started=5.5), "overlaps"),
    "a run that begins before a cut one is dead": (
        lambda e: replace(e, runs=[*e.runs, Run("e", 1, "j", 10, 6.8, 9.0, applied=False)]),
        "overlaps",
    ),
    "a run without end in a process that lives": (lambda e: _run(e, "d", pid=10), "runs"),
    "a run of no row": (
        lambda e: replace(e, runs=[*e.runs, Run("e", 9, "j", 10, 10.0, 11.0, applied=False)]),
        "runs of no row, or listed twice",
    ),
    "a run that is listed twice": (
        lambda e: replace(e, runs=[*e.runs, e.runs[2]]),
        "runs of no row, or listed twice",
    ),
    "a fault that did not happen": (
        lambda e: replace(e, faults=e.faults[1:]),
        "fault: Redis emptied",
    ),
    "a fault that hit nothing": (
        lambda e: replace(e, faults=[replace(e.faults[0], hit=()), *e.faults[1:]]),
        "fault: Redis emptied",
    ),
    "a fault that never healed": (
        lambda e: replace(e, faults=[replace(e.faults[0], healed=None), *e.faults[1:]]),
        "fault: Redis emptied",
    ),
    "a flush that was noticed late": (
        lambda e: replace(e, faults=[replace(e.faults[0], first=CUT + 2.5), *e.faults[1:]]),
        "after the flush",
    ),
    "a start that was held back for too long after a flush": (
        lambda e: replace(e, faults=[replace(e.faults[0], at=1.1, first=1.2), *e.faults[1:]]),
        "after the flush",
    ),
    "a guard that was never needed": (
        lambda e: replace(e, runs=[run for run in e.runs if run.run != "c"]),
        "runs repeated after their commit",
    ),
    "two jobs of one row": (lambda e: _end(e, copies_before=2), "jobs of one row at once"),
    "three jobs of one row after a deletion": (
        lambda e: _end(e, copies_after=3),
        "jobs of one row at once",
    ),
    "a lock that outlived its job": (lambda e: _end(e, locks=1), "left in Redis"),
    "a job that is dead": (lambda e: _end(e, dead=1), "left in Redis"),
    "a process that did not leave cleanly": (
        lambda e: _end(e, exits={"worker-1": 1}),
        "processes that left cleanly",
    ),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_the_verdict_names_what_is_off(good: Evidence, flaw: str) -> None:
    plant, what = FLAWS[flaw]
    assert what in [finding.what for finding in _off(plant(good))]


def test_a_process_that_died_ends_its_runs(good: Evidence) -> None:
    rerun = Run("e", 1, "j3", 10, CUT + 0.1, 8.0, applied=False)
    assert _off(replace(good, runs=[*good.runs, rerun])) == []


def test_a_long_run_overlaps_with_every_run_inside_it(good: Evidence) -> None:
    inside = [
        Run(name, 1, "j", 11, at, at + 0.1, applied=False) for name, at in (("x", 1.2), ("y", 1.6))
    ]
    (overlaps,) = [
        f for f in _off(replace(good, runs=[*good.runs, *inside])) if f.what == "overlaps"
    ]
    assert overlaps.value == "2"


def test_evidence_is_read_as_it_was_written(good: Evidence, tmp_path: Path) -> None:
    evidence.write(tmp_path, good)
    assert evidence.read(tmp_path) == good


def test_evidence_without_its_manifest_is_refused(good: Evidence, tmp_path: Path) -> None:
    evidence.write(tmp_path, good)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UnusableEvidence, match="not the evidence of a demo that ended"):
        evidence.read(tmp_path)


def test_evidence_that_was_changed_by_hand_is_refused(good: Evidence, tmp_path: Path) -> None:
    evidence.write(tmp_path, good)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(UnusableEvidence, match=r"rows\.jsonl changed after it was written"):
        evidence.read(tmp_path)


def test_evidence_of_another_version_is_refused(good: Evidence, tmp_path: Path) -> None:
    evidence.write(tmp_path, good)
    (tmp_path / "end.json").write_text('{"queued": 0}\n')
    evidence.seal(tmp_path)
    with pytest.raises(UnusableEvidence, match=r"end\.json should have"):
        evidence.read(tmp_path)


@pytest.mark.parametrize("how", sabotage.TAMPERINGS, ids=lambda how: how.__name__)
def test_every_way_to_tamper_with_the_evidence_is_noticed(
    good: Evidence, how: Callable[[Evidence, random.Random], Evidence]
) -> None:
    for seed in range(20):
        assert _off(how(good, random.Random(seed)))


def test_the_plan_follows_the_seed() -> None:
    assert plan(7) == plan(7)
    assert len({tuple(fault.kind for fault in plan(seed)) for seed in range(50)}) > 6


def test_every_plan_has_each_fault_once_in_rising_order_before_the_work_is_over() -> None:
    for seed in range(200):
        faults = plan(seed)
        shares = [fault.share for fault in faults]
        assert sorted(fault.kind for fault in faults) == sorted(KINDS)
        assert shares == sorted(shares)
        assert 0 < shares[0] < shares[-1] < 0.8


def test_the_rows_are_real_files_of_the_standard_library_first() -> None:
    rows = choose(300, 20.0, 10)
    assert len({row.path for row in rows}) == 300
    assert all(Path(row.path).is_file() for row in rows)
    assert Path(random.__file__).parent == Path(rows[0].path).parent
    assert sum(row.large for row in rows) == LARGE


def test_reading_the_rows_takes_about_as_long_as_it_should() -> None:
    rows = choose(400, 20.0, 10)
    seconds = [Path(row.path).stat().st_size / row.rate for row in rows if not row.large]
    assert 150 < sum(seconds) < 250
    assert max(seconds) <= 2.1
    assert all(5 < Path(row.path).stat().st_size / row.rate < 7 for row in rows if row.large)


def test_more_rows_than_files_are_refused_with_the_number_that_there_is() -> None:
    with pytest.raises(TooFewFiles, match="use --rows"):
        choose(10_000_000, 20.0, 10)


def test_where_no_redis_can_be_started_the_demo_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    done = CliRunner().invoke(main, ["demo", "--rows", "200", "--evidence", str(tmp_path / "it")])

    assert done.exit_code == 2
    assert "no Redis-compatible server is installed" in done.output
