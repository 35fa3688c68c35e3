from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from qik_core import cli, parent, settings
from tests import forks

APP = """
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from qik_core import Job

class Speed(StrEnum):
    SLOW = "slow"

class Typed(Job):
    def perform(self, name: str, row: UUID, day: date, speed: Speed, price: Decimal = Decimal(0), any: Any = 0) -> None: ...

class Loose(Job):
    def perform(self, maybe: str | None, sizes: list[int], ratio: float = 0.5, sure: bool = True) -> None: ...

class Charge(Job, queue="billing"):
    def perform(self, invoice: int, note: str = "") -> None: ...

class Once(Job, unique_for=60):
    def perform(self, n: int) -> None: ...
"""


@pytest.fixture(autouse=True)
def _own_settings() -> Iterator[None]:
    """A command that runs in this process makes its settings those of the process."""
    yield
    settings.use(None)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an application called `shop`, where commands are typed."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "jobs.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


Qik = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def qik(shop: Path) -> Qik:
    """Type a command, which runs in a process of its own."""

    def type_in(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "COLUMNS": "200", **environment}
        return forks.run(forks.QIK, arguments, cwd=shop, env=env)

    return type_in


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


# --- what is typed wrongly -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["wrok"], "'work'"),
        (["status", "--jsn"], "'--json'"),
        (["work", "--concurency", "3"], "'--concurrency'"),
    ],
)
def test_a_misspelt_command_or_option_is_answered_with_the_nearest(
    typed: list[str], meant: str
) -> None:
    result = run(*typed)
    assert result.exit_code == 2
    assert f"Did you mean {meant}" in result.output


def test_a_worker_without_an_application_names_the_three_ways_to_give_one(qik: Qik) -> None:
    told = qik("work")
    assert told.returncode == 2
    assert all(way in told.stderr for way in ("qik work shop.jobs", "QIK_APP", "qik.toml"))


def test_a_worker_without_redis_names_three_fixes_and_starts_no_server(qik: Qik) -> None:
    told = qik("work", "shop.jobs")
    assert told.returncode == 2
    assert all(fix in told.stderr for fix in ("export REDIS_URL=", "qik.toml", "qik dev"))


def test_an_application_that_is_not_there_is_named_before_anything_starts(qik: Qik) -> None:
    told = qik("work", "shopp.jobs", "--redis-url", "redis://localhost:1")
    assert told.returncode == 2
    assert "no module 'shopp'" in told.stderr
    assert "parent" not in told.stderr


def test_app_and_require_must_agree(qik: Qik) -> None:
    assert qik("work", "shop.jobs", "-r", "shop.other").returncode == 2


def test_settings_that_cannot_work_are_named_with_their_origins(qik: Qik) -> None:
    told = qik("config", REDIS_URL="http://x", QIK_LEASE="1")
    assert told.returncode == 2
    assert "environment REDIS_URL" in told.stderr
    assert "environment QIK_LEASE" in told.stderr


# --- config --------------------------------------------------------------------------------------


def test_config_prints_each_value_with_its_origin_and_hides_passwords(qik: Qik, shop: Path) -> None:
    (shop / "qik.toml").write_text(
        "heartbeat = 2\ndatabases.billing = 'postgresql://u:secret@h/b'\n"
    )
    told = qik("config", "--json", REDIS_URL="redis://:secret@host:6379/0", QIK_LEASE="20")
    rows: dict[str, Any] = json.loads(told.stdout)
    assert rows["heartbeat"]["value"] == 2
    assert "qik.toml" in rows["heartbeat"]["origin"]
    assert rows["lease"] == {"value": 20, "origin": "environment QIK_LEASE"}
    assert rows["redis"]["origin"] == "environment REDIS_URL"
    assert rows["concurrency"] == {"value": 10, "origin": "default"}
    assert "databases.billing" in rows
    assert (
        "secret" not in told.stdout + qik("config", REDIS_URL="redis://:secret@host:6379/0").stdout
    )


def test_config_prints_each_capsule_in_a_row_of_its_own(qik: Qik) -> None:
    told = qik("config", QIK_CAPSULES='{"slow": {"queues": ["a,2"], "concurrency": 1}}').stdout
    (row,) = [line for line in told.splitlines() if line.startswith("capsules.slow")]

    assert "a,2 (weighted, 1)" in row
    assert "environment QIK_CAPSULES" in row


def test_config_writes_queues_as_a_person_would(qik: Qik) -> None:
    assert "high,5 default,1" in qik("config", QIK_QUEUES="high,5 default").stdout


# --- enqueue -------------------------------------------------------------------------------------


def test_enqueue_pushes_one_job_with_its_json_arguments(
    qik: Qik, redis_url: str, raw: redis.Redis
) -> None:
    told = qik("enqueue", "Charge", "7", '"late"', "-a", "shop.jobs", REDIS_URL=redis_url)
    assert told.returncode == 0, told.stderr
    word, jid = told.stdout.split()
    job = json.loads(raw.lrange("queue:billing", 0, -1)[0])
    assert (word, job["jid"], job["args"]) == ("enqueued", jid, [7, "late"])


UUID = "7d444840-9dc0-11d1-b245-5ffdce74fad2"


@pytest.mark.parametrize(
    ("typed", "args"),
    [
        (["Typed", "7", UUID, "2026-11-22", "slow"], ["7", UUID, "2026-11-22", "slow", "0", 0]),
        (
            ["Typed", '"a b"', UUID, "2026-11-22", "slow", "12.50", '{"a": [1]}'],
            ["a b", UUID, "2026-11-22", "slow", "12.5", {"a": [1]}],
        ),
        (["Loose", "null", "[1, 2]"], [None, [1, 2], 0.5, True]),
        (["Loose", "none at all", "[]", "3", "false"], ["none at all", [], 3.0, False]),
    ],
)
def test_enqueue_reads_arguments_as_perform_is_annotated(
    qik: Qik, redis_url: str, raw: redis.Redis, typed: list[str], args: list[Any]
) -> None:
    told = qik("enqueue", f"shop.jobs:{typed[0]}", *typed[1:], REDIS_URL=redis_url)
    assert told.returncode == 0, told.stderr
    assert json.loads(raw.lrange("queue:default", 0, -1)[0])["args"] == args


def test_enqueue_says_what_became_of_a_duplicate(qik: Qik, redis_url: str) -> None:
    first = json.loads(qik("enqueue", "shop.jobs:Once", "1", "--json", REDIS_URL=redis_url).stdout)
    second = json.loads(qik("enqueue", "shop.jobs:Once", "1", "--json", REDIS_URL=redis_url).stdout)
    assert first["result"] == "enqueued"
    assert second == {
        "result": "duplicate",
        "jid": first["jid"],
        "state": "duplicate_queued",
        "told": True,
    }
    third = qik("enqueue", "shop.jobs:Once", "1", REDIS_URL=redis_url)
    assert third.stdout.split() == ["duplicate", first["jid"], "queued"]


def test_enqueue_can_wait_and_use_another_queue(qik: Qik, redis_url: str, raw: redis.Redis) -> None:
    arguments = ("enqueue", "Charge", "7", "-a", "shop.jobs", "--in", "60", "-q", "slow")
    assert qik(*arguments, REDIS_URL=redis_url).returncode == 0
    (payload,) = raw.zrange("schedule", 0, -1)
    assert isinstance(payload, bytes)
    assert json.loads(payload)["queue"] == "slow"
    assert raw.zcount("schedule", time.time(), time.time() + 60) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Chrage", "7"], "did you mean 'Charge'"),
        (["Charge", '"7"'], "args[0]"),
        (["Charge", "late"], "argument 1"),
        (["Charge", "NaN"], "argument 1"),
        (["Charge", "7", "late", "more"], "3 arguments were given"),
        (["Typed", "x", "1", "2026-11-22", "slow"], "args[1]"),
        (["Charge"], "invoice"),
        (["Charge", "1", "-q", "a b"], "queue"),
        (["Charge", "1", "--in", "nan"], "wait"),
    ],
)
def test_enqueue_refuses_what_cannot_travel_and_writes_nothing(
    qik: Qik, redis_url: str, raw: redis.Redis, arguments: list[str], said: str
) -> None:
    told = qik("enqueue", *arguments, "-a", "shop.jobs", REDIS_URL=redis_url)
    assert told.returncode == 2
    assert said in told.stderr
    assert "Traceback" not in told.stderr
    assert raw.dbsize() == 0


# --- status --------------------------------------------------------------------------------------


def test_status_shows_queues_with_their_sizes(qik: Qik, redis_url: str) -> None:
    for number in range(3):
        qik("enqueue", "Charge", str(number), "-a", "shop.jobs", REDIS_URL=redis_url)
    seen = json.loads(qik("status", "--json", REDIS_URL=redis_url).stdout)
    assert seen["queues"]["billing"]["queued"] == 3
    text = qik("status", REDIS_URL=redis_url).stdout
    assert "billing  3" in text
    assert "dead 0" in text
    assert "paused" not in text
    qik("pause", "billing", REDIS_URL=redis_url)
    assert "paused" in qik("status", REDIS_URL=redis_url).stdout
    assert "epoch " in text


def test_status_shows_jobs_under_which_a_process_died(
    qik: Qik, redis_url: str, raw: redis.Redis
) -> None:
    raw.sadd("queues", "billing")
    raw.lpush("qik:suspect:billing", "{}", "{}")
    assert "billing: 2 suspects" in qik("status", REDIS_URL=redis_url).stdout
    seen = json.loads(qik("status", "--json", REDIS_URL=redis_url).stdout)
    assert seen["queues"]["billing"]["suspects"] == 2


def test_status_shows_what_is_held(qik: Qik, redis_url: str, raw: redis.Redis) -> None:
    raw.lpush("qik:held:Mail", "{}", "{}")
    raw.hset("qik:held", "Mail", 4096)
    assert "Mail: 2 jobs held, 4 KB" in qik("status", REDIS_URL=redis_url).stdout
    seen = json.loads(qik("status", "--json", REDIS_URL=redis_url).stdout)
    assert seen["held"] == {"Mail": {"jobs": 2, "bytes": 4096}}


def test_status_shows_names_as_they_are(qik: Qik, redis_url: str, raw: redis.Redis) -> None:
    raw.sadd("queues", "a[/b]:100:")  # no markup, and no picture
    assert "a[/b]:100:" in qik("status", REDIS_URL=redis_url).stdout


def test_status_needs_no_application(qik: Qik, redis_url: str) -> None:
    assert qik("status", REDIS_URL=redis_url, QIK_APP="not.there").returncode == 0


def test_an_empty_redis_has_a_status_too(qik: Qik, redis_url: str) -> None:
    told = qik("status", REDIS_URL=redis_url)
    assert told.returncode == 0
    assert "epoch none" in told.stdout


def test_a_redis_that_is_away_is_exit_4_and_names_it(qik: Qik) -> None:
    told = qik("status", REDIS_URL="redis://:secret@127.0.0.1:1/0")
    assert told.returncode == 4
    assert "127.0.0.1:1" in told.stderr
    assert "secret" not in told.stderr


def test_a_redis_that_does_not_answer_is_given_up_within_3_seconds(qik: Qik) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        told = qik("status", REDIS_URL=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        assert told.returncode == 4
        assert time.monotonic() - began < 3.5


# --- work ----------------------------------------------------------------------------------------


def test_work_becomes_a_parent_with_the_settings_and_without_what_a_command_imports(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *call: called.append(call))
    arguments = ["work", "shop.jobs", "-p", "3", "-c", "7", "-q", "high,5", "-q", "low", "-t", "9"]
    run(*arguments, "--redis-url", "redis://:secret@host/1", "--max-memory", "512")
    program, argv, environment = called[0]
    spec = parent.Spec(**json.loads(environment[parent.SPEC_VARIABLE]))
    assert program == argv[0] == sys.executable
    assert argv[1:] == ["-S", "-P", str(Path(parent.__file__).resolve())]
    assert (spec.processes, spec.shutdown, spec.memory_mb) == (3, 9.0, 512)
    assert (spec.heartbeat, spec.lease) == (5.0, 30.0)
    assert spec.settings["app"] == "shop.jobs"
    assert spec.settings["queues"] == [["high", 5], ["low", 1]]
    assert spec.settings["redis"] == "redis://:secret@host/1"


def test_limits_and_capsules_of_the_settings_reach_the_parent(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *call: called.append(call))
    monkeypatch.setenv("QIK_MAX_MEMORY", "256")
    monkeypatch.setenv("QIK_CAPSULES", '{"slow": {"queues": ["slow"], "concurrency": 2}}')
    run("work", "shop.jobs", "-c", "5", "--redis-url", "redis://host/1")
    spec = parent.Spec(**json.loads(called[0][2][parent.SPEC_VARIABLE]))
    assert (spec.memory_mb, spec.slots) == (256, 7)


# --- the rest ------------------------------------------------------------------------------------


def test_version_names_this_package_and_python() -> None:
    assert run("--version").output.startswith("qik-core ")


def test_help_lists_every_command_as_its_own_help_begins() -> None:
    told = run("--help").output
    for name, (_, short) in cli.COMMANDS.items():
        assert cli.main.loaded(name).get_short_help_str(200) == short
        assert name in told


def test_help_costs_no_more_than_click() -> None:
    heavy = {"rich", "redis", "msgspec", "qik_core.settings"}
    code = f"import sys; from qik_core import cli; print(sorted({heavy} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


def test_help_takes_less_than_150_ms_of_cpu_beyond_bare_python() -> None:
    def seconds(*arguments: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        after = os.times()
        return (
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )

    bare = min(seconds("-c", "pass") for _ in range(3))
    assert min(seconds("-m", "qik_core.cli", "--help") for _ in range(3)) - bare < 0.15
