from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qik_core import DefinitionError, Job, job, registry


@pytest.fixture(autouse=True)
def _own_names() -> Any:
    with registry.scope(empty=True):
        yield


def test_a_job_is_found_by_its_class_name() -> None:
    class Found(Job):
        def perform(self) -> None: ...

    assert registry.find("Found") is Found.definition
    assert "Found" in registry.names()


def test_a_job_is_found_by_its_own_name_and_its_aliases() -> None:
    class Renamed(Job, name="Billing::Charge", aliases=["Charge", "OldCharge"]):
        def perform(self) -> None: ...

    assert registry.find("Billing::Charge") is Renamed.definition
    assert registry.find("OldCharge") is Renamed.definition
    assert registry.find("Renamed") is None
    assert [name for name in registry.names() if "Charge" in name] == ["Billing::Charge"]


def test_a_name_that_nobody_defined_is_none() -> None:
    assert registry.find("os.system") is None
    assert registry.find("") is None


def test_two_classes_of_one_name_clash_with_both_places_and_the_remedy() -> None:
    class Same(Job):
        def perform(self) -> None: ...

    with pytest.raises(
        DefinitionError, match=r"two jobs are called 'Same'.*test_registry.*name='Billing::X'"
    ) as caught:
        _other_same()

    assert str(caught.value).count("test_registry.py") == 2
    assert registry.find("Same") is Same.definition


def _other_same() -> None:
    class Same(Job):
        def perform(self, number: int) -> None: ...


def test_an_alias_clashes_as_a_name_does() -> None:
    class First(Job):
        def perform(self) -> None: ...

    with pytest.raises(DefinitionError, match="two jobs are called 'First'"):

        class Second(Job, aliases=["First"]):
            def perform(self) -> None: ...

    assert registry.find("Second") is None


def test_a_class_that_is_defined_again_replaces_itself() -> None:
    def define() -> type[Job]:
        class Again(Job):
            def perform(self) -> None: ...

        return Again

    define()
    second = define()

    assert registry.find("Again") is second.definition


def test_classes_made_by_one_function_are_kept_apart_by_their_names() -> None:
    def define(own: str) -> type[Job]:
        class Made(Job, name=own):
            def perform(self) -> None: ...

        return Made

    first, second = define("First"), define("Second")

    assert registry.find("First") is first.definition
    assert registry.find("Second") is second.definition


def test_two_classes_that_inherit_one_perform_clash_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(
        "from qik_core import Job\nclass Base(Job):\n    def perform(self) -> None: ...\n"
    )
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("from base import Base\nclass Child(Base): ...\n")
    root = Path(__file__).parents[2]

    done = subprocess.run(
        [sys.executable, "-c", "import one, two"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{root}:{tmp_path}"},
    )

    assert "two jobs are called 'Child'" in done.stderr
    assert "one.py" in done.stderr
    assert "two.py" in done.stderr


def test_a_scope_forgets_what_was_registered_in_it() -> None:
    with registry.scope():

        class Inside(Job):
            def perform(self) -> None: ...

        assert registry.find("Inside")

    assert registry.find("Inside") is None


def test_bases_without_perform_are_not_registered() -> None:
    class Base(Job, queue="base"):
        pass

    assert registry.find("Base") is None


def test_functions_are_registered_by_their_names() -> None:
    @job
    def by_name() -> None: ...

    @job(name="Other::Name")
    def by_other_name() -> None: ...

    assert registry.find("by_name") is by_name.definition
    assert registry.find("Other::Name") is by_other_name.definition


def test_a_lambda_has_no_name_to_register() -> None:
    with pytest.raises(DefinitionError, match="cannot be a job's name"):
        job(lambda: None)


def test_a_module_that_runs_as_main_and_is_imported_as_itself_defines_one_job(
    tmp_path: Path,
) -> None:
    path = tmp_path / "twice.py"
    path.write_text(
        "from qik_core import Job\n"
        "class Twice(Job):\n"
        "    def perform(self) -> None: ...\n"
        "if __name__ == '__main__':\n"
        "    import twice\n"
        "    print(twice.Twice.definition.name)\n"
    )
    root = Path(__file__).parents[2]

    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(root)},
    )

    assert (done.stdout, done.stderr) == ("Twice\n", "")


def test_an_empty_scope_hides_what_was_registered_before_and_gives_it_back() -> None:
    class Kept(Job):
        def perform(self) -> None: ...

    with registry.scope(empty=True):
        assert registry.find("Kept") is None
    assert registry.find("Kept") is Kept.definition
