from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from qik_core.testing import Fake, Inline, MisusedMode, Real
from tests.pytests import run_pytest
from tests.qik_core.testing.jobs_of_apps import Mail, done, users

ROOT = Path(__file__).parents[3]
LOADED = """
    import sys

    def loaded():
        return sorted(name for name in sys.modules if name.partition(".")[0] in ("qik_core", "redis", "msgspec"))

    def test_nothing_is_loaded():
        assert loaded() == ["qik_core", "qik_core.lazy", "qik_core.testing", "qik_core.testing.plugin"]

    def test_a_fixture_loads_what_it_needs(qik_fake):
        assert "qik_core.testing.fakes" in loaded()
        assert "qik_core.processor" not in loaded()
"""


def test_the_fixture_of_memory_keeps_jobs(qik_fake: Fake) -> None:
    Mail.perform_async("a@example.org")

    assert len(qik_fake) == 1
    assert done == []


def test_the_fixture_at_push_performs_jobs(qik_inline: Inline) -> None:
    Mail.perform_async("a@example.org")

    assert done == ["a@example.org"]


def test_the_fixture_with_a_server_performs_jobs_in_a_drain(qik_real: Real) -> None:
    Mail.perform_async("a@example.org")
    assert done == []

    qik_real.drain()
    assert done == ["a@example.org"]


def test_pytest_finds_the_plugin_by_its_entry_point() -> None:
    (found,) = [each for each in entry_points(group="pytest11") if each.name == "qik"]

    assert found.value == "qik_core.testing.plugin"


def test_nothing_is_imported_until_a_fixture_is_asked_for(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, users(LOADED), "-W", "error")

    assert result.outcomes == {"passed": 2}


def test_importing_the_plugin_costs_next_to_nothing() -> None:
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import pytest, qik_core.testing.plugin"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stderr
    ours = [line.rpartition("|")[2].strip() for line in told.splitlines() if "qik_core" in line]

    own = {"qik_core", "qik_core.lazy", "qik_core.testing", "qik_core.testing.plugin"}
    assert set(ours) == own


def test_fixtures_work_in_parallel_and_with_warnings_as_errors(tmp_path: Path) -> None:
    source = """
        import asyncio
        import pytest
        from qik_core import job

        @job
        async def mail(to: str): ...

        @pytest.mark.parametrize("n", range(6))
        def test_memory(qik_fake, n):
            asyncio.run(push(n))
            assert qik_fake.drain() == 1

        async def push(n):
            await mail.aio.perform_async(str(n))

        @pytest.mark.parametrize("n", range(3))
        def test_server(qik_real, n):
            asyncio.run(push(n))
            assert qik_real.drain() == 1

        def test_at_push(qik_inline):
            asyncio.run(push(0))
        """
    result = run_pytest(tmp_path, users(source), "-n", "2", "-W", "error")

    assert result.outcomes == {"passed": 10}


def test_two_modes_for_one_test_are_an_error_that_names_both(
    qik_fake: Fake, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(MisusedMode, match=r"inline\(\) inside fake\(\): one mode at a time"):
        request.getfixturevalue("qik_inline")


@pytest.mark.parametrize("name", ["fake", "assert_enqueued", "real", "assert_idempotent"])
def test_names_are_imported_when_they_are_used(name: str) -> None:
    import qik_core.testing

    assert name in dir(qik_core.testing)
    assert getattr(qik_core.testing, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    import qik_core.testing

    with pytest.raises(AttributeError, match="fakes_"):
        qik_core.testing.fakes_  # noqa: B018
