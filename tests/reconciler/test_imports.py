from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import reconciler

ROOT = Path(__file__).parents[2]
HEAVY = ("apscheduler", "alembic", "UnleashClient", "prometheus_client", "redis")


def loaded_by(code: str) -> set[str]:
    """Return the top-level names of what a fresh interpreter has loaded after this code."""
    show = "import json, sys; print(json.dumps(sorted({each.partition('.')[0] for each in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_nothing_that_a_web_process_does_not_need() -> None:
    assert not loaded_by("import reconciler") & {*HEAVY, "sqlalchemy", "click"}


def test_defining_a_reconciler_loads_sqlalchemy_and_neither_clock_nor_migrations_nor_flags() -> (
    None
):
    code = "from reconciler import Reconciler, derive, Outcome, Report, include_name"

    assert not loaded_by(code) & {*HEAVY, "click", "rich"}


@pytest.mark.parametrize("command", ["--help", "run --help", "status --help"])
def test_asking_for_help_loads_neither_clock_nor_migrations(command: str) -> None:
    code = (
        f"import sys; sys.argv = ['reconciler', *{command.split()!r}]\n"
        "from reconciler.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print()"
    )
    show = "import sys; print(sorted(each for each in ('alembic', 'apscheduler') if each in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[-1] == "[]"


def test_every_public_name_can_be_imported() -> None:
    names = [name for homes in reconciler._HOMES.values() for name in homes]

    assert all(getattr(reconciler, name) is not None for name in names)
    assert set(names) <= set(dir(reconciler))


def test_a_name_that_does_not_exist_is_said_to_be_missing() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Reconsiler'"):
        _ = reconciler.Reconsiler


def test_all_public_names_and_no_others_come_with_a_star() -> None:
    names: dict[str, object] = {}

    exec("from reconciler import *", names)  # noqa: S102 - elsewhere than on top a module may have no star

    public = {name for homes in reconciler._HOMES.values() for name in homes}
    assert set(names) - {"__builtins__"} == public
