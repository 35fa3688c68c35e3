from __future__ import annotations

import json
from pathlib import Path

import pytest

from qik_core.switches import Rule
from reconciler.switches.kept import Kept
from reconciler.switches.remembered import Remembered

WORK = {"disable_work": (Rule(source="unleash", reason="rollout"),)}


def test_what_was_known_is_known_again_after_a_start_without_sql_and_redis(tmp_path: Path) -> None:
    first = Remembered(Kept(tmp_path, "x.json"))
    first.keep({"sql": {"disable_a": (Rule(source="sql", who="ana"),)}, "unleash": WORK})

    second = Remembered(Kept(tmp_path, "x.json"))
    second.load()

    assert second.known == first.known
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / "x.json").read_bytes())["form"] == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{",
        b"[]",
        b'{"form":2}',
        b'{"form":1,"sources":[]}',
        b'{"form":1,"sources":{"sql":[]}}',
        b'{"form":1,"sources":{"sql":{"disable_x":[{"percent":"all"}]}}}',
        b'{"form":1,"sources":{"sql":{"disable_x":7}}}',
        b"cos\nsystem\n(S'touch planted'\ntR.",
        b"\x80\x04\x95",
        b"[" * 100_000,
    ],
)
def test_a_file_that_is_not_what_was_kept_is_not_loaded(
    tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """U8."""
    (tmp_path / "x.json").write_bytes(garbage)
    known = Remembered(Kept(tmp_path, "x.json"))

    known.load()

    assert known.known == {}
    assert not Path("planted").exists()
    assert "is not what was kept" in caplog.records[-1].reason  # type: ignore[attr-defined]


def test_a_file_that_others_can_write_is_not_loaded(tmp_path: Path) -> None:
    """U8."""
    first = Remembered(Kept(tmp_path, "x.json"))
    first.keep({"unleash": WORK})
    (tmp_path / "x.json").chmod(0o666)

    second = Remembered(Kept(tmp_path, "x.json"))
    second.load()

    assert second.known == {}
