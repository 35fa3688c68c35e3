"""The commands of a checkout: what they say when something is missing, and that they do no more than asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = (
    "sh",
    "dirname",
    "cat",
    "cksum",
    "sed",
    "grep",
    "tail",
    "mkdir",
    "mktemp",
    "cp",
    "rm",
    "tee",
    "env",
)
FAKE_UV = """
echo "$1 $2" >> "$CALLS"
if [ "$1" = venv ]; then
  mkdir -p .venv/bin
  printf '#!/bin/sh\\nexit 0\\n' > .venv/bin/python
  chmod +x .venv/bin/python
fi
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the set-up looks at, in a path with a space."""
    place = tmp_path / "a checkout"
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, place / name)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, place / name)
    return place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH with the usual tools, and neither Python nor uv."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    return folder


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def run(
    checkout: Path, path: Path, script: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [path / "sh", checkout / "scripts" / script],
        env={"PATH": str(path), "HOME": str(path), **variables},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def first_line(done: subprocess.CompletedProcess[str], after: str = "") -> str:
    lines = [line for line in done.stderr.splitlines() if "making .venv" not in line]
    return lines[0]


def test_set_up_without_python_names_it_first_and_the_fix(checkout: Path, path: Path) -> None:
    done = run(checkout, path, "setup")

    assert done.returncode == 1
    assert "Python 3.11 or later is missing (found: no python3 at all)" in first_line(done)
    assert "apt-get install python3" in done.stderr


def test_set_up_with_an_old_python_says_which_it_found(checkout: Path, path: Path) -> None:
    put(path, "python3", 'if [ "$1" = --version ]; then echo Python 3.9.2; else exit 1; fi')

    done = run(checkout, path, "setup")

    assert done.returncode == 1
    assert "found: Python 3.9.2" in first_line(done)


def test_set_up_without_the_venv_module_names_the_package(checkout: Path, path: Path) -> None:
    put(path, "python3", 'case "$2" in *ensurepip*) exit 1;; esac')

    done = run(checkout, path, "setup")

    assert done.returncode == 1
    assert "has no venv module" in first_line(done)
    assert "apt-get install python3-venv" in done.stderr


def test_set_up_without_an_index_says_so_and_how_to_name_a_mirror(
    checkout: Path, path: Path
) -> None:
    (path / "python3").symlink_to(Path(sys.executable).resolve())

    done = run(
        checkout,
        path,
        "setup",
        PIP_CONFIG_FILE="/dev/null",
        PIP_INDEX_URL="http://127.0.0.1:1/simple",
        PIP_RETRIES="0",
    )

    assert done.returncode == 1
    assert "No package index could be reached" in first_line(done)
    assert "PIP_INDEX_URL" in done.stderr


def test_set_up_uses_uv_where_it_is_and_runs_once_per_lock(checkout: Path, path: Path) -> None:
    calls = path / "calls"
    put(path, "uv", FAKE_UV)
    (path / "chmod").symlink_to(str(shutil.which("chmod")))

    first = run(checkout, path, "setup", CALLS=str(calls))
    second = run(checkout, path, "setup", CALLS=str(calls))
    with (checkout / "requirements" / "dev.lock").open("a") as lock:
        lock.write("# newer\n")
    third = run(checkout, path, "setup", CALLS=str(calls))

    assert (first.returncode, second.returncode, third.returncode) == (0, 0, 0), first.stderr
    assert second.stderr == ""
    assert calls.read_text().split("\n") == [
        "venv --quiet",
        "pip install",
        "pip install",
        "pip install",
        "pip install",
        "",
    ]


def test_set_up_installs_again_when_an_entry_point_changes(checkout: Path, path: Path) -> None:
    calls = path / "calls"
    put(path, "uv", FAKE_UV)
    (path / "chmod").symlink_to(str(shutil.which("chmod")))
    run(checkout, path, "setup", CALLS=str(calls))
    project = checkout / "pyproject.toml"
    project.write_text(project.read_text().replace("qik_core.testing.plugin", "elsewhere"))

    done = run(checkout, path, "setup", CALLS=str(calls))

    assert done.returncode == 0, done.stderr
    assert calls.read_text().count("pip install") == 4


def test_an_environment_that_was_moved_is_made_anew(checkout: Path, path: Path) -> None:
    calls = path / "calls"
    put(path, "uv", FAKE_UV)
    (path / "chmod").symlink_to(str(shutil.which("chmod")))
    run(checkout, path, "setup", CALLS=str(calls))
    moved = checkout.rename(checkout.with_name("elsewhere"))

    done = run(moved, path, "setup", CALLS=str(calls))

    assert done.returncode == 0
    assert calls.read_text().count("venv --quiet") == 2


def test_nothing_is_installed_on_a_machine_unless_asked(checkout: Path, path: Path) -> None:
    put(path, "apt-get", "echo called; exit 1")
    put(path, "dpkg-query", "echo not-installed")

    done = run(checkout, path, "provision")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_provisioning_by_somebody_who_may_not_names_the_command_for_root(
    checkout: Path, path: Path
) -> None:
    put(path, "id", "echo 1000")
    put(path, "dpkg-query", "echo not-installed")

    done = run(checkout, path, "provision", PROVISION="1")

    assert done.returncode == 1
    assert (
        "Fix, as root: apt-get install --no-install-recommends redis-server postgresql pgbouncer mariadb-server"
        in done.stderr
    )


def test_provisioning_with_everything_there_does_nothing(checkout: Path, path: Path) -> None:
    put(path, "dpkg-query", "echo installed")

    done = run(checkout, path, "provision", CI="true")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_make_alone_lists_its_targets() -> None:
    said = subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True, check=True
    ).stdout

    for target in ("setup", "demo", "test", "test-all", "check", "fmt", "bench"):
        assert re.search(rf"^  make {target} +\w", said, re.MULTILINE), target


def test_an_interpreter_that_is_named_reaches_the_set_up(checkout: Path, path: Path) -> None:
    put(path, "named", 'echo "$0" >> "$CALLS"; exit 1')
    (path / "make").symlink_to(str(shutil.which("make")))
    variables = {"PATH": str(path), "PYTHON": "named", "CALLS": str(path / "calls")}

    subprocess.run(
        [path / "make", "-C", checkout, "setup"], env=variables, capture_output=True, check=False
    )

    assert (path / "calls").read_text().splitlines()[0].endswith("named")


def test_the_demo_takes_a_server_that_is_named_and_none_that_a_shell_exports() -> None:
    command = ["make", "-C", str(ROOT), "--no-print-directory", "-n", "demo"]
    exported = {
        **os.environ,
        "REDIS_URL": "redis://production/0",
        "DATABASE_URL": "postgresql://production/x",
    }

    silent = subprocess.run(
        command, capture_output=True, text=True, check=True, env=exported
    ).stdout
    named = subprocess.run(
        [*command, "REDIS_URL=redis://here/0", "ROWS=50"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert "production" not in silent
    assert "--redis-url 'redis://here/0'" in named
    assert "--rows '50'" in named


def test_the_lock_pins_every_requirement_with_hashes_and_names_no_index() -> None:
    lock = (ROOT / "requirements" / "dev.lock").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    wanted = [
        *project["project"]["dependencies"],
        *(line for extra in extras for line in extra),
        *project["dependency-groups"]["tools"],
    ]
    pinned = set(re.findall(r"^([a-z0-9.-]+)==", lock, re.MULTILINE))

    assert {re.split(r"[^A-Za-z0-9.-]", line)[0].lower() for line in wanted} <= pinned
    assert lock.count(" \\\n") >= len(pinned)
    assert not re.search(r"://|^-|^\s+-(?!-hash)", lock, re.MULTILINE)


def pytest_run(
    folder: Path, text: str, *more: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    test = folder / "test_inner.py"
    test.write_text(f"from __future__ import annotations\nimport pytest\n{text}")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        ROOT / "pyproject.toml",
        "--rootdir",
        ROOT,
        "-p",
        "tests.conftest",
        *more,
        test,
    ]
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CI": "false", **variables},
    )


NEEDS_REDIS = "@pytest.mark.every_server\ndef test_a(raw): assert raw.ping()\n"


def test_a_run_without_a_server_ends_with_what_it_left_out_and_how_to_add_it(
    tmp_path: Path,
) -> None:
    done = pytest_run(tmp_path, NEEDS_REDIS, PATH=str(tmp_path))

    assert done.returncode == 0, done.stdout
    assert "not run: 1 tests need redis-server" in done.stdout
    assert "add it, as root: PROVISION=1 make test" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout.splitlines()[-1]


def test_in_ci_an_absent_server_is_a_failure(tmp_path: Path) -> None:
    done = pytest_run(tmp_path, NEEDS_REDIS, PATH=str(tmp_path), CI="true")

    assert done.returncode == 1
    assert "nothing skips" in done.stdout


def test_in_ci_a_skipped_test_is_a_failure(tmp_path: Path) -> None:
    done = pytest_run(
        tmp_path, "def test_a(): pytest.skip('why not')\ndef test_b(): pass\n", CI="true"
    )

    assert done.returncode == 1
    assert "collected = 2, passed = 1, skipped 1" in done.stdout


def test_in_ci_a_good_run_proves_that_nothing_skipped(tmp_path: Path) -> None:
    done = pytest_run(
        tmp_path, "@pytest.mark.parametrize('n', [1, 2])\ndef test_a(n): pass\n", CI="true"
    )

    assert done.returncode == 0
    assert "collected = 2, passed = 2, skipped 0" in done.stdout
    assert re.search(r"2 passed in", done.stdout.splitlines()[-1])


def test_workers_count_and_report_like_one_process(tmp_path: Path) -> None:
    odd = "@pytest.mark.parametrize('n', [1, 2, 3])\ndef test_a(n, record_property): record_property('x', '\\ud800')\n"

    done = pytest_run(tmp_path, odd + NEEDS_REDIS, "-n", "2", PATH=str(tmp_path))
    counted = pytest_run(tmp_path, odd, "-n", "2", CI="true")

    assert (done.returncode, counted.returncode) == (0, 0), done.stdout + counted.stdout
    assert "not run: 1 tests need redis-server" in done.stdout
    assert "collected = 3, passed = 3, skipped 0" in counted.stdout


def test_a_test_that_leaves_a_process_behind_fails(tmp_path: Path) -> None:
    # Popen returns when `tail` runs, of which the system has the mark: in the moment of its start there is none.
    orphan = "import subprocess as s; s.Popen(['tail', '-f', '/dev/null'], stdout=s.DEVNULL)"
    left = f"import subprocess, sys\ndef test_a(): subprocess.run([sys.executable, '-c', {orphan!r}])\n"

    done = pytest_run(tmp_path, left)

    assert done.returncode == 1
    assert "left processes behind" in done.stdout


def test_a_developers_own_settings_reach_no_test(tmp_path: Path) -> None:
    look = "import os\ndef test_a(): assert not {'REDIS_URL', 'DATABASE_URL_X', 'QIK_APP'} & set(os.environ)\n"

    done = pytest_run(
        tmp_path, look, REDIS_URL="redis://production/0", DATABASE_URL_X="sqlite://", QIK_APP="shop"
    )

    assert done.returncode == 0, done.stdout
