"""What a provider keeps for its next start: its own, and nobody else's."""

from __future__ import annotations

import json
import pickle
import stat
from pathlib import Path

import pytest

from reconciler.switches.unleash import Unleash
from tests.unleash.planted import Planted
from tests.unleash.providing import (
    ON,
    QUICK,
    REFRESH,
    Make,
    file_of,
    known,
)
from tests.unleash.stub import TOKEN, Stub
from tests.waiting import eventually

# --- U8: what others may have written ---


def test_only_this_user_can_touch_what_is_kept(stub: Stub, make: Make, tmp_path: Path) -> None:
    known(make(), "disable_mail")

    kept = file_of(tmp_path)

    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert TOKEN not in kept.read_text()
    assert json.loads(kept.read_text())["document"] == ON


@pytest.mark.parametrize("how", ["a pickle", "of others", "of a folder of others", "rubbish"])
def test_what_others_may_have_written_is_never_taken_up(
    how: str, stub: Stub, make: Make, tmp_path: Path
) -> None:
    provider = make()
    known(provider, "disable_mail")
    provider.close()
    kept = file_of(tmp_path)
    mark = tmp_path / "mark"
    if how == "a pickle":
        kept.write_bytes(pickle.dumps(Planted(mark)))
    elif how == "of others":
        kept.chmod(0o666)
    elif how == "of a folder of others":
        kept.parent.chmod(0o777)
    else:
        kept.write_bytes(kept.read_bytes()[:-1])
    stub.stop()

    another = make()

    assert another.rules() is None
    assert "is not used" in another.health()
    assert not mark.exists()
    stub.start()
    known(another, "disable_mail")
    assert not mark.exists()


def test_the_pickles_of_the_librarys_own_cache_are_never_opened(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    from fcache.cache import FileCache  # type: ignore[import-untyped]

    with FileCache("shop", flag="cs", app_cache_dir=None) as theirs:
        theirs["/client/features"] = Planted(mark)
    provider = Unleash(stub.url, TOKEN, "shop", REFRESH, None, QUICK)
    provider.start(lambda: None)

    known(provider, "disable_mail")
    provider.close()

    assert not mark.exists()


def test_another_token_never_takes_up_what_was_kept_for_this_one(
    stub: Stub, make: Make, tmp_path: Path
) -> None:
    known(make(), "disable_mail")
    file_of(tmp_path)
    stub.stop()

    other = Unleash(stub.url, "default:production.x", "shop", REFRESH, tmp_path / "kept", QUICK)
    other.start(lambda: None)
    try:
        assert other.rules() is None
    finally:
        other.close()


def test_a_folder_that_cannot_be_used_costs_nothing_but_the_next_start(
    stub: Stub, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    provider = Unleash(stub.url, TOKEN, "shop", REFRESH, tmp_path / "file" / "x", QUICK)
    provider.start(lambda: None)

    known(provider, "disable_mail")
    eventually(lambda: "are not kept" in provider.health(), 10.0)
    provider.close()
