from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from qik_core import settings
from qik_core.passes import Passes
from qik_core.providers import SwitchSettings
from qik_core.settings import Settings
from reconciler import audit
from reconciler.engines import Engines
from reconciler.report import Outcome
from reconciler.switches.making import folder, providers, remembered
from tests.reconciler.running import Running
from tests.reconciler.shop import Item, fill, items
from tests.waiting import eventually


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """The statements are tested on each database where they are."""
    return sqlite_url


def test_a_file_stops_a_running_process_and_lets_it_go_on_without_waiting_for_the_next_pass(
    home: Engine, engines: Engines, seam: Passes, raw: Any, tmp_path: Path, redis_url: str
) -> None:
    path = tmp_path / "off.toml"
    path.write_text('disable_work = "INC-42"\n')
    named = SwitchSettings(file=str(path), cache=str(tmp_path / "cache"))
    settings.use(Settings(redis=redis_url, switches=named))
    fill(home, range(1, 11))
    running = Running([items(select(Item.id), every=3_600)], engines, seam, 30.0)
    try:
        eventually(lambda: Outcome.GATED in running.ended(), 20)
        gated = next(each for each in running.reports if each.outcome is Outcome.GATED)
        assert "disable_work (file): INC-42" in gated.reason
        before = raw.llen("queue:work")

        path.write_text("# nothing\n")

        eventually(lambda: raw.llen("queue:work") == 10, 20)
        assert before in (0, 10)  # the first pass may have come before the file was read
        eventually(lambda: [each.action for each in audit.read(home, 0.0)][-1] == "enabled", 20)
        assert list((tmp_path / "cache").iterdir())
    finally:
        running.stop()
        settings.use(None)


def test_the_settings_name_the_providers(tmp_path: Path) -> None:
    named = SwitchSettings(
        file="off.toml", unleash_url="http://localhost:1/api", cache=str(tmp_path)
    )

    assert [each.name for each in providers(Settings(switches=named))] == ["file", "unleash"]
    assert providers(Settings()) == []


def test_what_was_known_last_is_kept_below_the_users_cache_folder_unless_it_is_told_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Engine
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder(Settings()) == tmp_path / "qik" / "switches"

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder(Settings()) == tmp_path / ".cache" / "qik" / "switches"

    def nobody(_: type[Path]) -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", classmethod(nobody))
    assert folder(Settings()) is None
    remembered(Settings(), home).keep({"unleash": {"disable_x": ()}})
