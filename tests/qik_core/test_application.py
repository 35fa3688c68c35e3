from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qik_core import Job, application, registry, rows
from qik_core.errors import SettingsError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def error_of(name: str) -> str:
    with pytest.raises(SettingsError) as raised:
        application.load(name)
    return str(raised.value)


def test_an_application_in_the_current_folder_is_found_and_imported(folder: Path) -> None:
    (folder / "shop_a.py").write_text("jobs = 1")
    application.check("shop_a:jobs")
    assert "shop_a" not in sys.modules
    application.load("shop_a:jobs")
    assert "shop_a" in sys.modules


def test_looking_for_an_application_runs_none_of_it(folder: Path) -> None:
    (folder / "shop_b").mkdir()
    (folder / "shop_b" / "__init__.py").write_text("raise RuntimeError")
    application.check("shop_b.jobs")


@pytest.mark.parametrize("look", [application.check, application.load])
def test_a_module_that_is_not_there_is_named_with_the_folder(folder: Path, look: object) -> None:
    assert callable(look)
    with pytest.raises(SettingsError, match=r"no module 'shop_c'") as raised:
        look("shop_c.jobs")
    assert str(folder) in str(raised.value)


def test_a_missing_submodule_is_named_itself(folder: Path) -> None:
    (folder / "shop_d").mkdir()
    (folder / "shop_d" / "__init__.py").touch()
    assert "no module 'shop_d.jobs'" in error_of("shop_d.jobs")


def test_a_module_that_the_application_misses_is_the_applications_own_error(folder: Path) -> None:
    (folder / "shop_e.py").write_text("\n\nimport nowhere_at_all\n")
    told = error_of("shop_e")
    assert (
        "app 'shop_e' cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'"
        in told
    )
    assert "shop_e.py" in told
    assert "line 3" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_whatever_an_import_raises_is_shown_with_the_applications_own_lines_only(
    folder: Path, text: str, said: str
) -> None:
    (folder / "shop_f.py").write_text(text)
    told = error_of("shop_f")
    assert said in told
    assert "importlib" not in told.replace("import shop_f", "")
    assert "application.py" not in told


def test_the_command_that_shows_an_error_again_can_be_pasted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "shop_p.py").write_text("def f(:")
    monkeypatch.setattr(sys, "executable", "/a b/python")
    told = error_of("shop_p").splitlines()
    assert told[1:] == ["Correct it; `'/a b/python' -c 'import shop_p'` shows the same"]


def test_an_attribute_that_is_not_there_is_named(folder: Path) -> None:
    (folder / "shop_g.py").touch()
    assert "has no 'jobs'" in error_of("shop_g:jobs")


@pytest.mark.parametrize("look", [application.check, application.load])
def test_the_name_of_a_file_is_answered_with_the_modules(
    folder: Path, look: Callable[[str], None]
) -> None:
    (folder / "shop.py").write_text("")
    with pytest.raises(SettingsError, match=r"did you mean the module 'shop'\?"):
        look("./shop.py")
    with pytest.raises(SettingsError, match=r"did you mean the module 'shop\.jobs'\?"):
        look("shop/jobs.py")


def test_queues_of_jobs_and_reconcilers_that_are_not_served_are_named_with_their_users() -> None:
    class Exported(Job, queue="exports", retry_queue="slow", name="Exported"):
        def perform(self) -> None: ...

    class Usual(Job, name="Usual"):
        def perform(self) -> None: ...

    with rows.filled(None), registry.scope(empty=True):
        registry.register(Exported.definition)
        registry.register(Usual.definition)
        assert application.unserved({"default", "exports", "slow"}) == {}
        left = application.unserved({"default"})
    assert left == {"exports": ["Exported"], "slow": ["Exported"]}
    assert application.named(left) == "exports (Exported), slow (Exported)"
    assert application.named({"a": ["B", "C", "D", "E"]}) == "a (B, C, D, …)"
