"""The page that compares us with Sidekiq: every test that it names is there, and ten of them are seen to fail.

For each marked row the code is broken on purpose, in a copy, and the row's first test has to notice.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "sidekiq-parity.md"
MARK = "✱"
COPIED = ("qik_core", "tests", "pyproject.toml")


class Status(StrEnum):
    """What the page may say of a feature."""

    SAME = "same"
    BETTER = "better"
    LATER = "later"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Row:
    """One feature of Sidekiq."""

    feature: str
    status: Status
    marked: bool
    how: str
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake: in which file, what stands there, what stands there then."""

    path: str
    right: str
    wrong: str


LUA = "qik_core/store/lua"
MUTANTS = {
    "tests/qik_core/test_retry.py::test_the_wait_is_sidekiqs_and_grows_with_the_fourth_power": Mutant(
        "qik_core/retry.py", "count**4 + 15", "count**3 + 15"
    ),
    "tests/qik_core/store/test_exchange.py::test_the_dead_set_keeps_no_more_than_it_may": Mutant(
        f"{LUA}/lib/settle.lua", "0, -W.dead_max - 1)", "0, -W.dead_max - 2)"
    ),
    "tests/qik_core/test_processor.py::test_what_is_no_job_goes_to_the_dead_set_with_its_bytes": Mutant(
        "qik_core/processor.py",
        "return self._set_aside(job, str(error), error)",
        "return Done(job)",
    ),
    "tests/qik_core/store/test_due.py::test_what_is_due_moves_and_what_is_not_stays": Mutant(
        f"{LUA}/promote.lua", 'KEYS[1], "-inf", STAMP,', 'KEYS[1], "-inf", "+inf",'
    ),
    "tests/qik_core/test_order.py::test_strict_is_the_order_in_the_settings_always": Mutant(
        "qik_core/order.py", "order is Order.STRICT or len(names) == 1", "len(names) == 1"
    ),
    "tests/qik_core/store/test_exchange.py::test_a_fetched_job_is_held_until_it_is_settled": Mutant(
        f"{LUA}/lib/fetch.lua", 'redis.call("HSET", W.working, unpack(hash))', "local _ = hash"
    ),
    "tests/qik_core/store/test_exchange.py"
    "::test_queues_are_served_in_the_order_given_and_paused_ones_are_passed_over": Mutant(
        f"{LUA}/lib/fetch.lua", "paused[q] == 0 and ", ""
    ),
    "tests/qik_core/test_chain.py::test_a_chain_is_changed_as_sidekiqs_is": Mutant(
        "qik_core/chain.py",
        "self._place(old, len(self) - 1) + 1",
        "self._place(old, len(self) - 1)",
    ),
    "tests/qik_core/store/test_push.py::test_a_call_sent_twice_changes_nothing_and_answers_the_same": Mutant(
        f"{LUA}/push.lua", "if known then", "if nil then"
    ),
    "tests/qik_core/api/test_deleting.py::test_deleting_a_job_frees_its_lock_wherever_it_waits": Mutant(
        f"{LUA}/drop.lua", "free(E, taken, digests, jids)", ""
    ),
    "tests/qik_core/test_unique_jobs.py::test_a_duplicate_of_a_queued_job_is_refused": Mutant(
        f"{LUA}/lib/claim.lua", "if expired then", 'if expired or state == "q" then'
    ),
}


def rows() -> list[Row]:
    """Return the rows of all tables of the page."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]
    return [_row(row) for row in cells if row[0] != "Sidekiq" and not row[0].startswith("--")]


def _row(cells: list[str]) -> Row:
    feature, status, how, proven = cells
    tests = tuple(re.findall(r"`([^`]+)`", proven))
    return Row(feature, Status(status.removesuffix(MARK).strip()), MARK in status, how, tests)


def test_every_row_says_what_is_done_and_names_what_proves_it() -> None:
    read = rows()
    assert len(read) > 150
    assert len({row.feature for row in read}) == len(read), "one feature stands there twice"
    unproven = [row.feature for row in read if row.status in ("same", "better") and not row.tests]
    assert unproven == []
    promised = [row.feature for row in read if row.status in ("later", "left out") and row.tests]
    assert promised == []
    unsaid = [row.feature for row in read if row.status in ("better", "left out") and not row.how]
    assert unsaid == [], "better: how? left out: why?"


def test_every_test_that_the_page_names_is_there() -> None:
    named = {test for row in rows() for test in row.tests}
    gone = [test for test in sorted(named) if not _defined(test)]
    assert gone == []


def _defined(test: str) -> bool:
    """Tell whether pytest would collect this: a function of that name on the top level of that file."""
    path, _, name = test.partition("::")
    file = ROOT / path
    return file.exists() and name in _functions(file) and file.name.startswith("test_")


def _functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_marked_rows_are_those_whose_tests_are_seen_to_fail() -> None:
    assert {row.tests[0] for row in rows() if row.marked} == set(MUTANTS)
    assert len(MUTANTS) >= 10


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code that may be broken."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("*.pyc.*")  # what another process is just writing
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def _run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    del environment["PYTEST_CURRENT_TEST"]
    environment.pop("CI", None)  # a run of one test has no summary to keep
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:randomly"]
    return subprocess.run(
        [*command, *tests],
        cwd=folder,
        env={name: value for name, value in environment.items() if "PYTEST_XDIST" not in name},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_before_they_are_broken_all_of_them_pass(copy: Path) -> None:
    told = _run(copy, *MUTANTS)
    assert told.returncode == 0, told.stdout[-3000:]
    where = subprocess.run(
        [sys.executable, "-c", "import qik_core; print(qik_core.__file__)"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(copy))  # the copy is what they tested


@pytest.mark.parametrize("test", MUTANTS, ids=lambda test: test.partition("::")[2])
def test_a_mistake_in_the_code_turns_the_row_red(copy: Path, test: str) -> None:
    mutant = MUTANTS[test]
    file = copy / mutant.path
    text = file.read_text(encoding="utf-8")
    assert text.count(mutant.right) == 1, f"{mutant.path} has changed: choose another mistake"
    file.write_text(text.replace(mutant.right, mutant.wrong), encoding="utf-8")
    try:
        told = _run(copy, test)
    finally:
        file.write_text(text, encoding="utf-8")
    assert told.returncode == pytest.ExitCode.TESTS_FAILED, told.stdout[-3000:]
    assert "1 failed" in told.stdout
