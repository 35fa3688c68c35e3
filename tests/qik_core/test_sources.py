from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qik_core import settings
from qik_core.settings import Settings, configure, load
from qik_core.sources import CapsuleSettings, Order
from tests.qik_core.test_settings import problems


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    settings.use(None)
    yield
    settings.use(None)


# --- capsules ------------------------------------------------------------------------------------

TOML = """
concurrency = 4
queues = ["default"]

[capsules.slow]
queues = ["reports,3", "exports"]

[capsules.one]
queues = ["serial"]
concurrency = 1
order = "random"
"""
JSON = '{"slow": {"queues": ["reports,3", "exports"]}, "one": {"queues": "serial", "concurrency": 1, "order": "random"}}'
SLOW = CapsuleSettings(queues=(("reports", 3), ("exports", 1)), order=Order.WEIGHTED)
ONE = CapsuleSettings(queues=(("serial", 1),), concurrency=1, order=Order.RANDOM)


def test_capsules_of_a_file_stand_beside_the_default_one(tmp_path: Path) -> None:
    (tmp_path / "qik.toml").write_text(TOML)

    loaded = load(environ={})

    assert loaded.capsules == {"slow": SLOW, "one": ONE}
    assert list(loaded.all_capsules()) == ["default", "slow", "one"]
    assert [each.concurrency for each in loaded.all_capsules().values()] == [4, 4, 1]
    assert loaded.all_capsules()["default"].queues == (("default", 1),)
    assert loaded.slots == 9
    assert loaded.origin("capsules") == f"file {tmp_path / 'qik.toml'}"


def test_capsules_are_json_in_the_environment_and_a_mapping_in_code() -> None:
    assert load(environ={"QIK_CAPSULES": JSON}).capsules == {"slow": SLOW, "one": ONE}

    configure(capsules={"slow": {"queues": ["reports,3", "exports"]}, "one": ONE})

    assert settings.current().capsules == {"slow": SLOW, "one": ONE}


def test_capsules_travel_to_a_child() -> None:
    made = load(environ={"QIK_CAPSULES": JSON})

    assert Settings.from_json(made.to_json()) == made


def test_capsules_print_in_one_line_each() -> None:
    shown = load(environ={"QIK_CAPSULES": JSON}).masked()["capsules"]

    assert shown["one"] == "serial (random, 1)"
    assert shown["slow"].startswith("reports,3 exports (weighted, as many threads")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("slow", "use a table of names"),
        ("[1]", "use a table of names"),
        ('{"default": {"queues": ["a"]}}', "the default capsule is what queues"),
        ('{"a b": {"queues": ["a"]}}', "cannot be a name"),
        ('{"slow": {"queue": ["a"]}}', "did you mean 'queues'"),
        ('{"slow": ["a"]}', "use a table with queues"),
        ('{"slow": {"queues": ["a"], "concurrency": "2"}}', "use a whole number"),
        ('{"slow": {"queues": ["a"], "order": "best"}}', "strict, weighted, random"),
        ('{"slow": {"queues": ["a b"]}}', "cannot be a name"),
        ('{"slow": {}}', "empty"),
    ],
)
def test_a_capsule_that_cannot_work_is_a_problem_with_its_remedy(value: str, said: str) -> None:
    [problem] = problems({"QIK_CAPSULES": value})

    assert said in problem
    assert "capsules" in problem
    assert "environment QIK_CAPSULES" in problem


def test_further_settings_of_a_worker_are_read_from_the_environment() -> None:
    loaded = load(
        environ={
            "QIK_MAX_PAYLOAD": "2000",
            "QIK_MAX_MEMORY": "512",
            "QIK_RETRIES": "0",
            "QIK_ALLOW_EVICTION": "true",
            "QIK_LOG_FORMAT": "json",
        }
    )

    assert (loaded.max_payload, loaded.max_memory, loaded.retries) == (2000, 512, 0)
    assert (loaded.allow_eviction, loaded.log_format) == (True, "json")
    assert Settings.from_json(loaded.to_json()) == loaded


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"QIK_ALLOW_EVICTION": "perhaps"}, "use true or false"),
        ({"QIK_MAX_MEMORY": "1.5"}, "use a whole number"),
        ({"QIK_LOG_FORMAT": "xml"}, "use one of auto, pretty, plain, json"),
    ],
)
def test_a_further_setting_that_cannot_work_is_a_problem(
    environ: dict[str, str], said: str
) -> None:
    [problem] = problems(environ)

    assert said in problem


# --- release -------------------------------------------------------------------------------------


def test_a_release_comes_from_the_environment_and_travels_to_a_child() -> None:
    made = load(environ={"QIK_RELEASE": "v2.31+abc"})

    assert (made.release, made.origin("release")) == ("v2.31+abc", "environment QIK_RELEASE")
    assert Settings.from_json(made.to_json()).release == "v2.31+abc"
    assert load(environ={}).release is None


@pytest.mark.parametrize("value", ["two words", "x" * 101, "naïve"])
def test_a_release_that_is_none_is_refused(value: str) -> None:
    (said,) = problems(environ={"QIK_RELEASE": value})

    assert "is no release" in said
