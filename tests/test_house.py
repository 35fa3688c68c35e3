"""The house, checked: each rule on a planted offence, then on every file that it is for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Container, Iterator
from functools import cache
from pathlib import Path

import pytest

from qik_core.version import VERSION
from tests import house

ROOT = Path(__file__).parents[1]
PACKAGES = ("qik_core", "reconciler")
AROUND = ("examples", "benchmarks", "migrations")
NOT_OURS = {
    ".git",
    ".venv",
    ".cache",
    ".qik",
    ".hypothesis",
    ".ruff_cache",
    "__pycache__",
    "dist",
    "build",
}
HIDES_IMPORTS = {
    "qik_core/__init__.py",
    "qik_core/testing/__init__.py",
    "reconciler/__init__.py",
}
OWN_WORDS = {"tests/house.py", "tests/test_house.py"}  # the rules and their offences
PAUSES = {"tests/waiting.py"}
BY_PATH = {
    "qik_core/guard.py": frozenset[str](),
    "qik_core/embedded.py": frozenset({"qik_core.errors"}),
    "qik_core/parent.py": frozenset({"qik_core.notice", "qik_core.seat", "qik_core.shared"}),
    "qik_core/notice.py": frozenset[str](),
    "qik_core/seat.py": frozenset({"qik_core.shared", "qik_core.notice", "qik_core.probes.gather"}),
    "qik_core/shared.py": frozenset[str](),
    "qik_core/probes/families.py": frozenset[str](),
    "qik_core/probes/text.py": frozenset({"qik_core.probes.families"}),
    "qik_core/probes/listener.py": frozenset[str](),
    "qik_core/probes/gather.py": frozenset(
        {
            "qik_core.shared",
            "qik_core.probes.families",
            "qik_core.probes.listener",
            "qik_core.probes.text",
        }
    ),
}

Check = Callable[[str], list[str]]


@pytest.fixture(autouse=True, scope="module")
def _forget() -> Iterator[None]:
    """Parse each file once for all rules."""
    yield
    house.forget()


def files(*folders: str, suffix: str = "") -> dict[str, str]:
    """Return path → text of the repository's own files below these folders, or all."""
    found, kept = {}, _kept()
    for folder, names, leaves in os.walk(ROOT):
        names[:] = [name for name in names if _is_ours(name)]
        for leaf in leaves:
            path = (Path(folder) / leaf).relative_to(ROOT).as_posix()
            if (
                (kept is None or path in kept)
                and leaf.endswith(suffix)
                and (not folders or path.startswith(tuple(f"{f}/" for f in folders)))
            ):
                found[path] = (ROOT / path).read_text(encoding="utf-8", errors="surrogateescape")
    return dict(sorted(found.items()))


@cache
def _kept() -> frozenset[str] | None:
    """Return what git tracks or would; None without git. What an example writes when it runs is nobody's source."""
    if shutil.which("git") is None:
        return None
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return frozenset(listed.stdout.split("\0")) if listed.returncode == 0 else None


def test_what_git_ignores_is_nobodys_source() -> None:
    left = ROOT / "examples" / "minimal" / "house-test.db"
    left.write_bytes(b"SQLite format 3\x00\x1b")
    try:
        assert left.relative_to(ROOT).as_posix() not in files("examples")
    finally:
        left.unlink()


def _is_ours(folder: str) -> bool:
    hidden = folder.startswith(".") and folder != ".ci"
    return not hidden and folder not in NOT_OURS and not folder.endswith(".egg-info")


def python(*folders: str) -> dict[str, str]:
    return files(*folders, suffix=".py")


def hold(rule: Check, texts: dict[str, str], but: Container[str] = ()) -> None:
    """Fail with every offence against this rule, one a line."""
    said = [
        f"{path}: {said}" for path, text in texts.items() if path not in but for said in rule(text)
    ]
    if said:
        pytest.fail("\n".join([rule.__doc__ or "", *said[:100]]), pytrace=False)


FUTURE = "from __future__ import annotations\n"
PLANTED: list[tuple[Check, str, str]] = [
    (house.short_modules, "x = 1\n" * 401, "x = 1\n" * 400),
    (house.short_functions, "def f():\n" + "    x = 1\n" * 49, "def f():\n" + "    x = 1\n" * 48),
    (house.short_lines, "x" * 131, "x" * 130),
    (house.has_docstring, FUTURE, '"""A module."""\n'),
    (
        house.has_future_import,
        '"""A module."""\nimport os\n',
        '"""A module."""\n' + FUTURE + "import os\n",
    ),
    (
        house.no_hidden_imports,
        "if TYPE_CHECKING:\n    import os\n",
        'x = "not under TYPE_CHECKING"\n',
    ),
    (house.no_foreign_code, "import pickle\n", "import json\n"),
    (house.no_foreign_code, "from marshal import loads\n", "from json import loads\n"),
    (house.no_foreign_code, "eval('1')\n", "evaluate('1')\n"),
    (
        house.no_whole_database,
        "link.call(b'FLUSHALL')\n",
        '"""A FLUSHALL by hand is noticed."""\n',
    ),
    (house.no_whole_database, "client.flushdb()\n", "client.dbsize()\n"),
    (house.no_whole_database, "client.keys('*')\n", "mapping.keys()\n"),
    (house.no_whole_database, "link.call('KEYS', '*')\n", "names = {'keys': 1}\n"),
    (house.no_whole_database_script, 'redis.call("KEYS", "*")', 'redis.call("GET", KEYS[1])'),
    (house.no_pause, "import time\ntime.sleep(1)\n", "eventually(lambda: True)\n"),
    (house.our_words, "# sweeps the queue", "# a pass over the queue"),
    (house.our_words, "# kills the job", "# the kill switch, SIGKILL, os.kill"),
    (house.our_words, "# TODO: later", "# to do"),
    (house.words_of_passes, "# each tick", "# each pass"),
    (house.no_machine, "path = '/" + "work/main'", "path = '/usr/bin:working/' + 'a/home/x'"),
    (house.no_trick_characters, "x = 1 # \u202eevil", "x = 1  # ≤ 5 → naïve …"),
    (house.no_trick_characters, "\u0430dmin = 1", "admin = 1"),
    (
        house.script_header,
        "-- push: jobs\nreturn 1",
        "-- push: jobs\n-- KEYS[1] k\n-- ARGV[1] a\n-- returns n\n-- Why a script: one step\nreturn 1",
    ),
    (
        house.script_header,
        "-- KEYS ARGV returns Why a script\n" + "x = 1\n" * 41,
        "-- KEYS ARGV returns Why a script\n" + "x = 1\n" * 40,
    ),
    (house.shared_script_header, "local x = 1", "-- What scripts share.\nlocal x = 1"),
    (house.sentence_names, "def test_push(): ...\n", "def test_a_push_twice_is_one_job(): ...\n"),
]


@pytest.mark.parametrize(
    ("rule", "offence", "fine"),
    PLANTED,
    ids=[f"{rule.__name__}-{n}" for n, (rule, *_) in enumerate(PLANTED)],
)
def test_each_rule_finds_its_planted_offence_and_nothing_else(
    rule: Check, offence: str, fine: str
) -> None:
    assert rule(offence)
    assert rule(fine) == []


def test_a_module_of_the_standard_library_is_told_from_another() -> None:
    standard = frozenset(sys.stdlib_module_names)

    assert (
        house.standard_library_only("import os\nimport a.b\n", frozenset({"a.b"}), standard) == []
    )
    assert house.standard_library_only("import redis\n", frozenset(), standard) == [
        "line 1: imports redis"
    ]
    assert house.usual_function(["def f():\n    '''Doc.'''\n    x = 1\n    return x\n"]) == 2


@pytest.mark.parametrize(
    "rule",
    [house.short_modules, house.short_functions, house.has_future_import, house.short_lines],
    ids=lambda r: r.__name__,
)
def test_modules_and_functions_are_short(rule: Check) -> None:
    hold(rule, python(*PACKAGES, *AROUND, "tests"))


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_mostly_very_short(package: str) -> None:
    assert house.usual_function(list(python(package).values())) <= house.USUAL_FUNCTION


def test_every_module_says_what_it_is() -> None:
    hold(house.has_docstring, python(*PACKAGES, *AROUND))


def test_no_import_is_hidden_from_the_runtime() -> None:
    hold(house.no_hidden_imports, python(*PACKAGES, *AROUND), HIDES_IMPORTS)


def test_nothing_is_unpickled_or_evaluated() -> None:
    hold(house.no_foreign_code, python(*PACKAGES))


def test_no_command_looks_at_or_empties_a_whole_redis() -> None:
    hold(house.no_whole_database, python(*PACKAGES))
    hold(house.no_whole_database_script, files("qik_core", suffix=".lua"))


def test_what_runs_by_path_imports_only_the_standard_library() -> None:
    standard, texts = frozenset(sys.stdlib_module_names), python("qik_core")

    for path, allowed in BY_PATH.items():
        assert house.standard_library_only(texts[path], allowed, standard) == [], path


def test_every_script_says_why_it_is_one() -> None:
    scripts = files("qik_core/store/lua", suffix=".lua")
    shared = {path: text for path, text in scripts.items() if "/lib/" in path}

    hold(house.script_header, scripts, set(shared))
    hold(house.shared_script_header, shared)


def test_no_test_waits_for_a_time() -> None:
    hold(house.no_pause, python("tests"), PAUSES)


def test_names_of_tests_are_sentences() -> None:
    hold(house.sentence_names, python("tests"))


def test_one_word_stands_for_one_thing() -> None:
    texts = files()

    hold(house.our_words, texts, {*OWN_WORDS, "docs/glossary.md"})
    hold(house.words_of_passes, python("reconciler"))


def test_nothing_names_the_machine_it_was_written_on() -> None:
    hold(house.no_machine, files(), OWN_WORDS)


def test_no_file_holds_characters_that_deceive() -> None:
    hold(house.no_trick_characters, files(), OWN_WORDS)


def test_every_module_of_the_engine_has_its_place_in_the_internals() -> None:
    told = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8")
    modules = {Path(path).parts[1].removesuffix(".py") for path in python("qik_core")} - {
        "__init__",
        "__main__",
    }

    unplaced = sorted(name for name in modules if not re.search(rf"\b{name}\b", told))

    assert ", ".join(unplaced) == ""


def test_the_version_is_the_same_wherever_it_is_written() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert project["version"] == VERSION
    assert "## Unreleased" in changes or f"## {VERSION}" in changes


def test_links_between_pages_lead_somewhere() -> None:
    pages = files(suffix=".md")
    dead = [
        f"{path} → {target}"
        for path, text in pages.items()
        for target in house.links(text)
        if not (ROOT / path).parent.joinpath(target).exists()
    ]

    assert dead == []


def test_every_word_of_the_glossary_is_explained_once() -> None:
    words = re.findall(
        r"^\| \*\*(.+?)\*\*",
        (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )

    assert len(words) == len(set(words))
    assert {"job", "edge", "pass", "told", "epoch", "exchange", "lease", "term"} <= set(words)
