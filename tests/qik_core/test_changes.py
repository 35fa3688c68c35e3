from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qik_core.changes import Sources, sources_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which modules can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def _write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_of_a_package_every_python_file_below_it_is_looked_at(folder: Path) -> None:
    inside = {_write(folder / "stall" / name) for name in ("__init__.py", "jobs.py", "a/b/c.py")}
    _write(folder / "stall" / "notes.txt")
    _write(folder / "stall" / ".venv" / "lib.py")
    _write(folder / "beside.py")
    assert set(sources_of("stall.jobs")) == set(sources_of("stall.jobs:app")) == inside


def test_of_a_module_alone_those_beside_it_and_their_packages_are_looked_at(folder: Path) -> None:
    names = ("kiosk.py", "models.py", "deep/__init__.py", "deep/er/jobs.py")
    beside = {_write(folder / name) for name in names}
    _write(folder / "no_package" / "script.py")
    assert set(sources_of("kiosk")) == beside


def test_files_that_are_made_edited_or_removed_are_told_once_and_when_nobody_writes_any_more(
    folder: Path,
) -> None:
    kept, removed = (_write(folder / "booth" / name) for name in ("__init__.py", "old.py"))
    sources = Sources("booth")
    assert (sources.changed(), sources.changed()) == ([], [])
    made = _write(folder / "booth" / "new.py")
    assert sources.changed() == []
    kept.write_text("x = 1")
    removed.unlink()
    assert sources.changed() == []
    assert sources.changed() == [kept, made, removed]
    assert sources.changed() == []


def test_what_cannot_be_found_has_no_files(folder: Path) -> None:
    assert "nowhere_at_all" not in sys.modules
    assert list(sources_of("nowhere_at_all")) == []
