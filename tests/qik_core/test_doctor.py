"""What `doctor` finds: each finding once on a real server, and nothing on a sound one."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from qik_core import cli, registry, rows, settings
from qik_core.doctor import Check, Finding, check_boot, examine
from qik_core.embedded import Embedded, Kind
from qik_core.errors import SettingsError, StoreError
from qik_core.findings import Severity
from qik_core.settings import Settings
from qik_core.store.inspection import Facts, Server, inspect
from qik_core.store.link import Link
from tests import servers

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "doctor.md"
SOUND = {"appendonly": "yes"}

Serve = Callable[..., Embedded]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers with settings of their own."""
    started: list[Embedded] = []

    def start(kind: Kind = Kind.VALKEY, **config: str) -> Embedded:
        given = {name.replace("_", "-"): value for name, value in config.items()}
        server = Embedded(kind, config=given)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


def seen(url: str, **changes: Any) -> list[Finding]:
    return examine(inspect(Link(url)), Settings(redis=url, **changes))


def checks(url: str, **changes: Any) -> set[Check]:
    return {each.check for each in seen(url, **changes)}


def facts(**changes: Any) -> Facts:
    of_server = {each.name for each in dataclasses.fields(Server)} & changes.keys()
    server = {"kind": "redis", "version": (7, 0, 15), "policy": "noeviction", "save": "60 1"}
    given = {**server, **{name: changes.pop(name) for name in of_server}}
    return Facts(server=Server(**given), **changes)


def found(seen: Facts, **changes: Any) -> dict[Check, Finding]:
    return {each.check: each for each in examine(seen, Settings(**changes))}


# --- the server ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(Kind))
def test_nothing_is_found_on_a_sound_server(serve: Serve, kind: Kind) -> None:
    servers.redis_server(kind)  # skips where there is none
    assert seen(serve(kind, **SOUND).url) == []


@pytest.mark.parametrize(
    ("kind", "version", "is_fine"),
    [
        ("redis", (6, 1, 9), False),
        ("redis", (6, 2, 0), True),
        ("valkey", (7, 1, 9), False),
        ("valkey", (7, 2, 4), True),
        ("redis", (0, 0, 0), True),  # it may not be asked: that is another finding
    ],
)
def test_a_server_under_the_floor_is_too_old(kind: str, version: Any, *, is_fine: bool) -> None:
    seen = found(facts(kind=kind, version=version))
    assert (Check.TOO_OLD not in seen) == is_fine


def test_valkey_is_known_by_its_own_version_and_not_the_one_it_claims(serve: Serve) -> None:
    server = inspect(Link(serve(Kind.VALKEY).url)).server
    assert server.kind == "valkey"
    assert server.version > (7, 2, 4)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_policy_that_evicts_is_an_error_and_a_warning_once_allowed(
    serve: Serve, kind: Kind
) -> None:
    servers.redis_server(kind)
    url = serve(kind, **SOUND, maxmemory_policy="volatile-lru").url
    (finding,) = seen(url)
    assert (finding.check, finding.severity) == (Check.EVICTION, Severity.ERROR)
    assert "volatile-lru" in finding.what
    (finding,) = seen(url, allow_eviction=True)
    assert (finding.check, finding.severity) == (Check.EVICTION, Severity.WARNING)


def test_a_node_of_a_cluster_is_an_error(serve: Serve) -> None:
    assert checks(serve(**SOUND, cluster_enabled="yes").url) == {Check.CLUSTER}


def test_a_replica_is_an_error(serve: Serve) -> None:
    url = serve(**SOUND, replicaof="127.0.0.1 1").url
    assert checks(url) >= {Check.REPLICA, Check.SCRIPTS}


def test_a_server_that_keeps_nothing_on_disk_is_warned_of(serve: Serve) -> None:
    (finding,) = seen(serve().url)
    assert (finding.check, finding.severity) == (Check.PERSISTENCE, Severity.WARNING)
    assert seen(serve(save="60 1").url) == []


def test_saving_that_failed_is_an_error() -> None:
    seen = found(facts(failing=("rdb_last_bgsave_status",)))
    assert "rdb_last_bgsave_status" in seen[Check.SAVING_FAILS].what


def test_a_server_that_is_nearly_full_is_warned_of(serve: Serve) -> None:
    server = serve(**SOUND)
    with redis.Redis.from_url(server.url) as raw:
        raw.config_set("maxmemory", int(raw.info("memory")["used_memory"] * 1.1))
    assert checks(server.url) == {Check.NEARLY_FULL}


def test_too_few_connections_for_the_settings_are_warned_of(serve: Serve) -> None:
    url = serve(**SOUND, maxclients="40").url
    assert checks(url, processes=2, concurrency=10) == set()
    assert checks(url, processes=4, concurrency=10) == {Check.CONNECTIONS}


@pytest.mark.parametrize(("hours", "side"), [(1, "ahead of"), (-1, "behind")])
def test_a_clock_that_is_wrong_is_warned_of(redis_url: str, hours: int, side: str) -> None:
    seen = inspect(Link(redis_url), lambda: time.time() + hours * 3600)
    finding = found(seen)[Check.CLOCK]
    assert side in finding.what
    assert "3600" in finding.what


def test_a_slow_round_trip_is_warned_of() -> None:
    assert Check.SLOW in found(facts(round_trip=0.2))
    assert Check.SLOW not in found(facts(round_trip=0.01))


# --- users with few rights -----------------------------------------------------------------------


def limited(url: str, *rules: str) -> str:
    with redis.Redis.from_url(url) as raw:
        raw.execute_command("ACL", "SETUSER", "few", "on", ">pw", "~*", "&*", "+@all", *rules)
    return f"{url.replace('unix://', 'unix://few:pw@')}"


@pytest.mark.parametrize("kind", list(Kind))
def test_a_user_who_may_not_ask_gets_a_warning_and_the_rest_of_the_examination(
    serve: Serve, kind: Kind
) -> None:
    servers.redis_server(kind)
    server = serve(kind, **SOUND)
    assert checks(limited(server.url, "-config")) == {Check.DENIED}
    assert checks(limited(server.url, "-config", "-info")) == {Check.DENIED}
    with redis.Redis.from_url(server.url) as raw:
        raw.set("schedule", "spoilt")
    assert checks(limited(server.url, "-config")) == {Check.DENIED, Check.WRONG_TYPE}


def test_a_user_who_may_not_run_scripts_is_told_so(serve: Serve) -> None:
    assert Check.SCRIPTS in checks(limited(serve(**SOUND).url, "-@scripting"))


# --- who shares the database ---------------------------------------------------------------------


def process(raw: redis.Redis, identity: str, **info: Any) -> None:
    raw.sadd("processes", identity)
    raw.hset(identity, mapping={"info": json.dumps(info), "beat": time.time()})


def test_a_ruby_process_on_the_same_database_is_warned_of_with_what_it_may_lose(
    redis_url: str, raw: redis.Redis
) -> None:
    process(raw, "host:1:aa", labels=["qik"], queues=["default"])
    assert Check.RUBY not in checks(redis_url)
    process(raw, "host:2:bb", labels=[], queues=["mailers"])
    finding = {each.check: each for each in seen(redis_url)}[Check.RUBY]
    assert finding.severity is Severity.WARNING
    assert "host:2:bb" in finding.what
    assert "each death of one may lose 1 of them" in finding.what


def test_a_ruby_process_that_fetches_from_our_queue_is_an_error(
    redis_url: str, raw: redis.Redis
) -> None:
    process(raw, "host:2:bb", labels=[], queues=["mailers", "billing"])
    assert Check.RUBY_QUEUE not in checks(redis_url)
    given = seen(redis_url, queues=(("billing", 1),))
    assert "billing" in {each.check: each for each in given}[Check.RUBY_QUEUE].what


@pytest.mark.parametrize("info", ["", "[]", "{}", "null", '{"labels": 7}', "\udcff"])
def test_a_process_that_says_nothing_readable_does_not_stop_the_examination(
    redis_url: str, raw: redis.Redis, info: str
) -> None:
    raw.sadd("processes", "odd")
    raw.hset("odd", mapping={"info": info.encode("utf-8", "surrogateescape"), "beat": "soon"})
    assert Check.RUBY in checks(redis_url)


def test_jobs_that_nobody_will_fetch_are_warned_of(redis_url: str, raw: redis.Redis) -> None:
    process(raw, "host:1:aa", labels=["qik"], queues=["default"])
    raw.sadd("queues", "default", "forgotten", "not-due-yet")
    raw.lpush("queue:default", "{}")
    raw.lpush("queue:forgotten", "{}")
    raw.zadd("qik:later:not-due-yet", {"{}": 1, "[]": 2})
    finding = {each.check: each for each in seen(redis_url)}[Check.UNSERVED]
    assert "forgotten (1), not-due-yet (2)" in finding.what
    assert "default" not in finding.what


@pytest.mark.usefixtures("_own_settings")
def test_queues_of_an_application_that_nobody_serves_are_named(
    redis_url: str, raw: redis.Redis, tmp_path: Path
) -> None:
    (tmp_path / "unserved.py").write_text(
        "from qik_core import Job\nclass Unserved(Job, queue='sites'):\n    def perform(self): ...\n"
    )

    def told(*more: str) -> list[tuple[str, bool]]:
        said = json.loads(doctor("unserved", "--redis-url", redis_url, "--json", *more).output)
        found = [each for each in said["findings"] if each["check"] == "unserved"]
        return [(each["severity"], "sites (Unserved)" in each["what"]) for each in found]

    with registry.scope(empty=True):
        assert told() == [("note", True)]
        process(raw, "host:1:aa", labels=["qik"], queues=["default"])
        assert told() == [("warning", True)]
        process(raw, "host:2:bb", labels=["qik"], queues=["sites"])
        assert told() == []


def test_a_process_of_ours_that_has_been_silent_for_a_lease_is_warned_of(
    redis_url: str, raw: redis.Redis
) -> None:
    process(raw, "host:1:aa", labels=["qik"], queues=["default"])
    assert Check.SILENT not in checks(redis_url)
    raw.hset("host:1:aa", "beat", time.time() - 31)
    assert Check.SILENT in checks(redis_url)


def test_what_is_paused_and_what_was_counted_is_noted(redis_url: str, raw: redis.Redis) -> None:
    raw.sadd("paused", "slow")
    raw.hset("qik:counts", mapping={"expired": 3, "malformed": 0})
    given = {each.check: each for each in seen(redis_url)}
    assert given[Check.PAUSED].severity is given[Check.COUNTED].severity is Severity.NOTE
    assert "slow" in given[Check.PAUSED].what
    assert "expired 3" in given[Check.COUNTED].what
    assert "malformed" not in given[Check.COUNTED].what


@pytest.mark.parametrize(
    "key", ["queues", "schedule", "retry", "dead", "processes", "paused", "qik:epoch", "qik:counts"]
)
def test_a_key_of_another_type_is_named(redis_url: str, raw: redis.Redis, key: str) -> None:
    raw.geoadd(key, (1, 1, "here")) if key not in ("schedule", "retry", "dead") else raw.set(key, 1)
    finding = {each.check: each for each in seen(redis_url)}[Check.WRONG_TYPE]
    assert f"the key {key} is a" in finding.what


def test_a_queue_that_is_no_list_is_named(redis_url: str, raw: redis.Redis) -> None:
    raw.sadd("queues", "billing")
    raw.set("queue:billing", "x")
    finding = {each.check: each for each in seen(redis_url)}[Check.WRONG_TYPE]
    assert "queue:billing is no list" in finding.what


# --- at the start of a worker --------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [{"maxmemory_policy": "allkeys-lru"}, {"cluster_enabled": "yes"}]
)
def test_a_worker_does_not_start_where_jobs_would_be_lost(
    serve: Serve, config: Mapping[str, str]
) -> None:
    url = serve(**SOUND, **config).url
    with pytest.raises(SettingsError, match=r"maxmemory-policy is allkeys-lru|node of a cluster"):
        check_boot(Settings(redis=url))


def test_a_worker_told_to_allow_eviction_starts_with_a_warning(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    url = serve(**SOUND, maxmemory_policy="allkeys-lru").url
    check_boot(Settings(redis=url, allow_eviction=True))
    assert "allkeys-lru" in caplog.text


def test_a_worker_starts_with_a_warning_where_it_may_not_ask(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    url = serve(**SOUND, maxmemory_policy="allkeys-lru").url
    check_boot(Settings(redis=limited(url, "-config", "-info")))
    assert "may not ask" in caplog.text


def test_a_redis_that_is_away_is_no_reason_to_refuse() -> None:
    with pytest.raises(StoreError):
        check_boot(Settings(redis="redis://127.0.0.1:1/0"))


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with registry.scope(empty=True), rows.filled(None):
        yield
    settings.use(None)


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["doctor", *arguments])


@pytest.mark.usefixtures("_own_settings")
def test_the_command_prints_findings_with_remedies_and_exits_1(redis_url: str) -> None:
    told = doctor("--redis-url", redis_url)
    assert told.exit_code == 1
    assert "persistence" in told.output
    assert "→ Set `appendonly yes`" in told.output


@pytest.mark.usefixtures("_own_settings")
def test_the_command_exits_0_where_nothing_is_wrong(serve: Serve) -> None:
    server = serve(**SOUND)
    with redis.Redis.from_url(server.url) as raw:
        raw.hset("qik:counts", "expired", 1)  # a note is no finding
    told = doctor("--redis-url", server.url)
    assert told.exit_code == 0, told.output
    assert "expired 1" in told.output


@pytest.mark.usefixtures("_own_settings")
def test_the_command_exits_4_without_redis() -> None:
    told = doctor("--redis-url", "redis://127.0.0.1:1/0")
    assert told.exit_code == 4


@pytest.mark.usefixtures("_own_settings")
def test_the_command_prints_the_order_of_middleware_and_the_jobs_of_the_application(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "examined.py").write_text(
        "from qik_core import Job, configure\n"
        "def first(job, call): return call(job)\n"
        "def second(job, call): return call(job)\n"
        "configure(client_middleware=[first, second], server_middleware=[second, first])\n"
        "class Examined(Job):\n    def perform(self): ...\n"
    )
    told = doctor("examined", "--redis-url", serve(**SOUND).url, "--json")
    assert told.exit_code == 0, told.output
    report = json.loads(told.output)
    assert report["client_middleware"] == ["examined.first", "examined.second"]
    assert report["server_middleware"] == ["examined.second", "examined.first"]
    assert "Examined" in report["jobs"]
    assert report["settings"]["redis"] == "flag"
    assert report["findings"] == []


@pytest.mark.usefixtures("_own_settings")
def test_an_application_with_a_clash_of_names_is_an_error(serve: Serve, tmp_path: Path) -> None:
    code = "from qik_core import Job\nclass A(Job, name='Clash'):\n    def perform(self): ...\n"
    (tmp_path / "clashing.py").write_text(code + code.replace("class A", "class B")[24:])
    told = doctor("clashing", "--redis-url", serve(**SOUND).url, "--json")
    assert told.exit_code == 1
    (finding,) = json.loads(told.output)["findings"]
    assert (finding["check"], finding["severity"]) == ("app", "error")
    assert "Clash" in finding["what"]


# --- the page ------------------------------------------------------------------------------------


def test_the_reference_explains_every_finding() -> None:
    told = re.findall(r"^\| `([a-z-]+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert told == [check.value for check in Check]
