"""What an installed package holds, and what importing it costs."""

from __future__ import annotations

import importlib.metadata
import os
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = (
    "sqlalchemy",
    "alembic",
    "apscheduler",
    "UnleashClient",
    "prometheus_client",
    "structlog",
    "click",
    "rich",
)
LOADED = "import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what a wheel of this checkout installs."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


@pytest.fixture(scope="module")
def wheel(installed: Path) -> set[str]:
    """The names of the files in the wheel."""
    return {
        path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()
    }


def loaded(statement: str) -> set[str]:
    command = LOADED.format(module=statement)
    return set(
        subprocess.run(
            [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_a_wheel_holds_two_packages_and_nothing_else(wheel: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"qik_core", "reconciler"}


def test_a_wheel_holds_every_module_script_and_mark_of_typing(wheel: set[str]) -> None:
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in ("qik_core", "reconciler")
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", ".lua", ".html", ".css", ".js", ".svg", ".txt"}
        or path.name == "py.typed"
    }

    assert sources <= wheel


def test_migrations_travel_inside_the_reconciler(wheel: set[str]) -> None:
    migrations = {path.name for path in (ROOT / "migrations" / "versions").glob("*.py")}

    assert "reconciler/_migrations/env.py" in wheel
    assert {f"reconciler/_migrations/versions/{name}" for name in migrations} <= wheel


def test_an_installed_reconciler_makes_its_tables_from_the_wheel_alone(
    installed: Path, sqlite_url: str
) -> None:
    upgrade = "import sys, reconciler.cli as cli; print(cli.__file__); cli.main(sys.argv[1:])"

    done = subprocess.run(
        [sys.executable, "-c", upgrade, "upgrade", "--database-url", sqlite_url],
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert str(installed) in done.stdout
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as tables:
        found = {name for (name,) in tables.execute("SELECT name FROM sqlite_master")}
    assert {"reconciler_lease", "reconciler_pass", "reconciler_alembic_version"} <= found


def test_both_commands_are_entry_points_that_can_be_loaded() -> None:
    commands = {
        entry.name: entry
        for entry in importlib.metadata.distribution("qik-core").entry_points
        if entry.group == "console_scripts"
    }

    assert set(commands) == {"qik", "reconciler"}
    assert all(callable(entry.load()) for entry in commands.values())


@pytest.mark.parametrize("module", ["qik_core", "reconciler"])
def test_importing_a_package_loads_no_library_at_all(module: str) -> None:
    assert loaded(module) & {*HEAVY, "redis", "msgspec"} == set()


def test_pushing_costs_redis_and_an_encoder_and_nothing_else() -> None:
    assert loaded("qik_core; qik_core.Job, qik_core.push") & set(HEAVY) == set()


def test_declaring_a_reconciler_loads_no_clock_no_flags_no_migrations() -> None:
    unwanted = set(HEAVY) - {"sqlalchemy"}

    assert loaded("reconciler; reconciler.Reconciler, reconciler.derive") & unwanted == set()
