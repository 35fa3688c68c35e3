from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qik_core import settings
from qik_core.errors import SettingsError
from qik_core.middleware import ClientResult, Next
from qik_core.payload import Payload
from qik_core.settings import Settings, Wire, configure, load
from qik_core.sources import CapsuleSettings, Order
from qik_core.urls import mask

SECRET = "S3CR3T"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    settings.use(None)
    yield
    settings.use(None)


def problems(
    environ: dict[str, str] | None = None, flags: dict[str, Any] | None = None
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(flags, environ or {})
    return str(caught.value).splitlines()


def test_without_any_source_everything_is_a_default() -> None:
    loaded = load(environ={})

    assert loaded == Settings()
    assert loaded.redis == "redis://localhost:6379/0"
    assert {loaded.origin(name) for name in loaded.masked()} == {"default"}


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    (tmp_path / "qik.toml").write_text("concurrency = 2\nprocesses = 3\nheartbeat = 1\n")

    loaded = load({"concurrency": 4, "redis": None}, {"QIK_CONCURRENCY": "5", "QIK_PROCESSES": "6"})

    assert (loaded.concurrency, loaded.processes, loaded.heartbeat, loaded.lease) == (
        4,
        6,
        1.0,
        30.0,
    )
    assert loaded.origin("concurrency") == "flag"
    assert loaded.origin("processes") == "environment QIK_PROCESSES"
    assert loaded.origin("heartbeat") == f"file {tmp_path / 'qik.toml'}"
    assert loaded.origin("lease") == "default"


def test_the_environment_names_every_value() -> None:
    loaded = load(
        environ={
            "REDIS_URL": "rediss://user:pw@cache:6380/2",
            "DATABASE_URL": "postgresql+psycopg://db/main",
            "DATABASE_URL_BILLING": "sqlite:///billing.db",
            "QIK_APP": "shop.jobs",
            "QIK_QUEUES": "critical,5 default",
            "QIK_WIRE": "sidekiq8",
            "QIK_SHUTDOWN": "7.5",
            "HOME": "/",
        }
    )

    assert loaded.redis == "rediss://user:pw@cache:6380/2"
    assert loaded.databases == {
        "default": "postgresql+psycopg://db/main",
        "billing": "sqlite:///billing.db",
    }
    assert loaded.app == "shop.jobs"
    assert loaded.queues == (("critical", 5), ("default", 1))
    assert loaded.wire is Wire.SIDEKIQ8
    assert loaded.shutdown == 7.5
    assert loaded.origin("databases.billing") == "environment DATABASE_URL_BILLING"


@pytest.mark.parametrize("name", ["pyproject.toml", "qik.toml", "chosen.toml"])
def test_the_file_is_found(tmp_path: Path, name: str) -> None:
    table = "tool.qik" if name == "pyproject.toml" else ""
    head, dot = (f"[{table}]\n", f"{table}.") if table else ("", "")
    (tmp_path / name).write_text(
        f'{head}app = "shop.jobs"\nqueues = ["a,2", ["b", 3], "c"]\n[{dot}databases]\ndefault = "sqlite:///x.db"\n'
    )

    loaded = load(environ={"QIK_CONFIG": str(tmp_path / name)} if name == "chosen.toml" else {})

    assert loaded.app == "shop.jobs"
    assert loaded.queues == (("a", 2), ("b", 3), ("c", 1))
    assert loaded.databases == {"default": "sqlite:///x.db"}


def test_a_pyproject_without_our_table_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nx = 1\n")

    assert load(environ={}) == Settings()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"concurrency = ", "Invalid value"),
        (b"\xff\xfe", "decode"),
        (b"concurrency = 1\nconcurrency = 2\n", "overwrite"),
        (b'concurrency = "10"', "write the number without quotes"),
        (b"concurrency = 2.5", "use a whole number"),
        (b"concurrency = true", "use a number"),
        (b"redis = 7", "use a text"),
        (b"queues = 7", "use a list"),
        (b"queues = ['a b']", "cannot be a name"),
        (b"queues = ['a,x']", "is no number"),
        (b"databases = 'sqlite:///x'", "use a table"),
        (b"databases.default = 7", "use a text"),
        (b"concurency = 1", "did you mean 'concurrency'"),
        (b"#" * 1_000_001, "no file of settings"),
    ],
    ids=range(14),
)
def test_a_file_that_cannot_work_is_a_problem_with_its_path(
    tmp_path: Path, content: bytes, text: str
) -> None:
    (tmp_path / "qik.toml").write_bytes(content)

    [problem] = problems()

    assert text in problem
    assert str(tmp_path / "qik.toml") in problem


@pytest.mark.parametrize("path", ["missing.toml", "."])
def test_a_chosen_file_that_cannot_be_read_is_a_problem(path: str) -> None:
    [problem] = problems({"QIK_CONFIG": path})

    assert problem.startswith(f"file {path}: ")


def test_all_problems_are_reported_at_once_with_origin_and_remedy() -> None:
    found = problems(
        {
            "QIK_CONCURRENCY": "0",
            "QIK_CONCURENCY": "5",
            "QIK_REDIS": "redis://x",
            "REDIS_URL": "http://cache",
            "DATABASE_URL": "nothing",
            "QIK_ORDER": "fifo",
        },
        {"lease": 6.0, "nosuch": 1},
    )

    assert len(found) == 8
    assert any(
        each.startswith("environment QIK_CONCURENCY: ") and "QIK_CONCURRENCY" in each
        for each in found
    )
    assert any(each.startswith("environment QIK_REDIS: ") and "REDIS_URL" in each for each in found)
    assert "concurrency is 0 (environment QIK_CONCURRENCY): use 1 to 1000" in found
    assert any(
        each.startswith("redis (environment REDIS_URL): the scheme is 'http'") for each in found
    )
    assert any(
        each.startswith("databases.default (environment DATABASE_URL): not a URL") for each in found
    )
    assert any(
        each.startswith("order (environment QIK_ORDER): ") and "strict, weighted" in each
        for each in found
    )
    assert any(each.startswith("lease is 6 s (flag) and heartbeat 5 s") for each in found)
    assert any(each.startswith("nosuch (flag): ") for each in found)


@pytest.mark.parametrize("value", ["", " ", "redis://a ", "redis://a\n", "redis://a\0"], ids=ascii)
def test_an_empty_or_broken_variable_is_a_problem(value: str) -> None:
    [problem] = problems({"REDIS_URL": value})

    assert "environment REDIS_URL" in problem


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://cache", "scheme"),
        ("cache:6379", "scheme"),
        ("redis://", "host is missing"),
        ("redis://cache/x", "use a number"),
        ("redis://cache:x/0", "not a URL"),
        ("redis://cache:99999/0", "not a URL"),
        ("unix://", "path of the socket"),
        ("redis://[::1", "not a URL"),
    ],
)
def test_a_redis_url_that_cannot_work_is_a_problem(url: str, text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        Settings(redis=url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache",
        "rediss://u:p%40@cache:1/15",
        "redis://[::1]:6379/0",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_a_redis_url_that_can_work_is_taken(url: str) -> None:
    assert Settings(redis=url).redis == url


VALUES: list[dict[str, Any]] = [
    {"concurrency": 0},
    {"concurrency": -1},
    {"concurrency": 10**6},
    {"processes": 0},
    {"heartbeat": 0.0},
    {"heartbeat": float("nan")},
    {"shutdown": -1.0},
    {"lease": float("inf")},
    {"lease": 15.0},
    {"dead_max": 0},
    {"queues": ()},
    {"queues": (("a", 1), ("a", 2))},
    {"queues": (("a", 0),)},
    {"queues": (("a", -1),)},
    {"max_payload": 100},
    {"max_memory": 1},
    {"retries": -1},
    {"retries": 1001},
    {"capsules": {"slow": CapsuleSettings(queues=())}},
    {"capsules": {"slow": CapsuleSettings(queues=(("a", 1), ("a", 2)))}},
    {"capsules": {"slow": CapsuleSettings(queues=(("a", 0),))}},
    {"capsules": {"slow": CapsuleSettings(queues=(("a", 1),), concurrency=0)}},
    {"capsules": {"slow": CapsuleSettings(queues=(("a", 1),), concurrency=1001)}},
]


@pytest.mark.parametrize("values", VALUES, ids=str)
def test_a_value_out_of_range_is_a_problem(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(values))):
        Settings(**values)


def test_weights_make_the_order_weighted_unless_said_otherwise() -> None:
    assert load({"queues": ["a,5", "b"]}, {}).order is Order.WEIGHTED
    assert load({"queues": ["a", "b"]}, {}).order is Order.STRICT
    assert load({"queues": ["a,5", "b"], "order": "strict"}, {}).order is Order.STRICT


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://user:{SECRET}@cache:6379/0", "redis://user:***@cache:6379/0"),
        (f"redis://:{SECRET}@cache", "redis://:***@cache"),
        (
            f"postgresql://u:{SECRET}%40{SECRET}@[::1]:5432/x?sslmode=on",
            "postgresql://u:***@[::1]:5432/x?sslmode=on",
        ),
        (f"postgresql://h/x?user=u&password={SECRET}", "postgresql://h/x?user=u&password=***"),
        (f"unix://:{SECRET}@/run/redis.sock", "unix://:***@/run/redis.sock"),
        ("sqlite:///x.db", "sqlite:///x.db"),
    ],
)
def test_a_url_prints_without_its_secrets(url: str, shown: str) -> None:
    assert mask(url) == shown


def test_no_way_of_printing_settings_shows_a_secret() -> None:
    made = Settings(
        redis=f"redis://:{SECRET}@cache",
        databases={"default": f"postgresql://u:{SECRET}@h/x", "other": object()},
    )

    assert SECRET not in repr(made) + str(made) + str(made.masked())
    assert made.masked()["databases"]["other"] == "<object>"


def test_problems_do_not_show_a_secret() -> None:
    for url in (f"http://u:{SECRET}@h", f"redis://u:{SECRET}@h:x/0", f"redis://u:{SECRET}@h/y"):
        [problem] = problems({"REDIS_URL": url})
        assert SECRET not in problem


def test_settings_travel_to_a_child_as_json() -> None:
    made = load(
        {"queues": ["a,5", "b"], "wire": "sidekiq8"},
        {"DATABASE_URL": "sqlite:///x.db", "QIK_HEARTBEAT": "0.5", "QIK_LEASE": "3"},
    )

    back = Settings.from_json(made.to_json())

    assert back == made
    assert back.origins == made.origins
    assert json.loads(made.to_json())["queues"] == [["a", 5], ["b", 1]]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"nosuch": 1}', "null"])
def test_settings_of_another_version_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="from the parent"):
        Settings.from_json(text)


# --- configure -----------------------------------------------------------------------------------


def nothing(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
    return call_next(job)


def test_code_wins_over_the_environment_and_a_flag_over_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://environment")
    settings.use(load({"concurrency": 3}))

    configure(redis="redis://code", concurrency=7, client_middleware=[nothing])

    assert settings.current().redis == "redis://code"
    assert settings.current().origin("redis") == "configure()"
    assert settings.current().concurrency == 3
    assert settings.current().client_middleware == (nothing,)


def test_configure_takes_engines_by_name_and_keeps_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///x.db")
    engine = object()

    configure(databases={"billing": engine})

    assert settings.current().databases == {"default": "sqlite:///x.db", "billing": engine}
    assert Settings.from_json(settings.current().to_json()).databases == {
        "default": "sqlite:///x.db"
    }


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"rediss": "x"}, "did you mean 'redis'"),
        ({"redis": 7}, "use a text"),
        ({"client_middleware": [7]}, "use functions"),
        ({"queues": "a,b,c"}, "is no number"),
        ({"databases": {"a b": "sqlite://"}}, "is no name"),
        ({"concurrency": 0}, "use 1 to 1000"),
    ],
    ids=str,
)
def test_configure_with_something_wrong_changes_nothing(values: dict[str, Any], text: str) -> None:
    before = settings.current()

    with pytest.raises(SettingsError, match=text):
        configure(**values)

    assert settings.current() is before


def test_settings_are_read_once() -> None:
    assert settings.current() is settings.current()
