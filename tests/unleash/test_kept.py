"""A file for the next start: replaced as a whole, read only where nobody else can have written it."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path

import pytest

from reconciler.switches.kept import LARGEST, Kept, NotKept
from tests.unleash.planted import Planted


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "of qik", "known.json")


def test_what_was_saved_is_loaded_and_only_this_user_can_touch_it(kept: Kept) -> None:
    assert kept.load() is None

    kept.save(b"first")
    kept.save(b"second")

    assert kept.load() == b"second"
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.path.parent.stat().st_mode) == 0o700
    assert [each.name for each in kept.path.parent.iterdir()] == ["known.json"]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_to_is_not_read(kept: Kept, mode: int) -> None:
    kept.save(b"good")
    kept.path.chmod(mode)

    with pytest.raises(NotKept, match=r"written by others .*remove it"):
        kept.load()


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o1777])
def test_a_folder_that_others_can_write_to_is_neither_read_nor_written(
    kept: Kept, mode: int
) -> None:
    kept.save(b"good")
    kept.path.parent.chmod(mode)

    with pytest.raises(NotKept, match="chmod 700"):
        kept.load()
    with pytest.raises(NotKept, match="chmod 700"):
        kept.save(b"more")


def test_a_link_is_not_followed_neither_for_the_file_nor_for_the_folder(
    kept: Kept, tmp_path: Path
) -> None:
    kept.save(b"good")
    elsewhere = tmp_path / "elsewhere"
    kept.path.rename(elsewhere)
    kept.path.symlink_to(elsewhere)
    with pytest.raises(NotKept):
        kept.load()

    kept.save(b"mine")
    assert elsewhere.read_bytes() == b"good"

    (tmp_path / "way").symlink_to(kept.path.parent)
    with pytest.raises(NotKept):
        Kept(tmp_path / "way", "known.json").load()


def test_a_pipe_in_place_of_the_file_does_not_hang(kept: Kept) -> None:
    kept.save(b"good")
    kept.path.unlink()
    os.mkfifo(kept.path, 0o600)

    with pytest.raises(NotKept, match="is no file"):
        kept.load()


def test_a_file_of_somebody_else_is_not_read(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.save(b"good")
    if os.geteuid() == 0:
        os.chown(kept.path, 12_345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12_345)

    with pytest.raises(NotKept, match="belongs to user"):
        kept.load()


def test_a_file_that_is_too_large_is_not_read(kept: Kept) -> None:
    kept.save(b"good")
    os.truncate(kept.path, LARGEST + 1)

    with pytest.raises(NotKept, match="larger"):
        kept.load()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("a file")

    with pytest.raises(NotKept, match="cannot be written"):
        Kept(tmp_path / "there" / "below", "known.json").save(b"x")


def test_a_pickle_in_its_place_is_only_bytes(kept: Kept, tmp_path: Path) -> None:
    kept.save(pickle.dumps(Planted(tmp_path / "mark")))

    assert kept.load() is not None
    assert not (tmp_path / "mark").exists()
