"""What a drill breaks: its own servers, or those that are named, meant and empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from qik_core import settings
from reconciler import migrate
from reconciler.drill import conduct, places
from reconciler.drill.errors import Unsafe
from reconciler.drill.places import Wanted
from reconciler.engines import Engines
from reconciler.lease import Leases

NAMED = "postgresql://db/production"


def wanted(
    app: str | None = None,
    redis_url: str | None = None,
    database_url: str | None = None,
    *,
    meant: bool = False,
) -> Wanted:
    """What somebody typed, where the settings name a production."""
    given = {"databases": {"default": NAMED}, "redis": "redis://cache/0"}
    return Wanted(settings.load(given, environ={}), app, redis_url, database_url, meant)


def test_a_drill_of_its_own_service_has_servers_of_its_own(tmp_path: Path) -> None:
    with places.redis_of(wanted()) as url:
        assert url.startswith("unix://")

    assert places.databases_of(wanted(), tmp_path) == {
        "default": f"sqlite:///{tmp_path / 'drill.sqlite3'}"
    }


def test_a_redis_that_is_named_has_to_be_meant(redis_url: str) -> None:
    with (
        pytest.raises(Unsafe, match="say --i-mean-it"),
        places.redis_of(wanted(redis_url=redis_url)),
    ):
        pass


def test_a_redis_in_which_something_lives_is_refused_with_what_lives_there(
    redis_url: str, raw: redis.Redis
) -> None:
    raw.mset({f"session:{number}": 1 for number in range(7)})

    with (
        pytest.raises(Unsafe, match=r"7 keys \(session:0, .*session:4 …\)"),
        places.redis_of(wanted(redis_url=redis_url, meant=True)),
    ):
        pass

    assert raw.dbsize() == 7


def test_other_databases_of_that_server_count_too(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, db=3) as other:
        other.set("a", 1)

    with (
        pytest.raises(Unsafe, match=r"1 key .in other databases of that server"),
        places.redis_of(wanted(redis_url=redis_url, meant=True)),
    ):
        pass


def test_an_empty_redis_that_is_meant_is_left_empty(redis_url: str, raw: redis.Redis) -> None:
    with places.redis_of(wanted(redis_url=redis_url, meant=True)) as url:
        assert url == redis_url
        raw.set("left by the drill", 1)

    assert raw.dbsize() == 0


def test_a_redis_is_left_empty_by_a_drill_that_failed(redis_url: str, raw: redis.Redis) -> None:
    def fail() -> None:
        with places.redis_of(wanted(redis_url=redis_url, meant=True)):
            raw.set("left by the drill", 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()

    assert raw.dbsize() == 0


def test_the_databases_of_the_settings_have_to_be_meant(tmp_path: Path) -> None:
    spelt = "postgresql+psycopg://shop:secret@DB:5432/production?sslmode=require"
    refused = [
        wanted("shop"),
        wanted("shop", database_url=NAMED),
        wanted(database_url=NAMED),
        wanted(database_url=spelt),
    ]
    for each in refused:
        with pytest.raises(Unsafe, match="--i-mean-it"):
            places.databases_of(each, tmp_path)

    meant = wanted("shop", meant=True)
    assert places.databases_of(meant, tmp_path) == {"default": NAMED}
    other = wanted("shop", database_url="sqlite:///other.db")
    assert places.databases_of(other, tmp_path) == {"default": "sqlite:///other.db"}


CONFIGURED: dict[str, tuple[dict[str, Any], str]] = {
    "a redis": ({"redis": "redis://cache/0"}, "shop names its Redis by configure"),
    "a database": (
        {"databases": {"default": NAMED}},
        "shop names the databases default by configure",
    ),
}


@pytest.mark.parametrize("what", CONFIGURED)
def test_what_an_application_names_in_code_is_not_drilled(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, said = CONFIGURED[what]
    redis_url, databases = "unix:///drill", {"default": "sqlite:///drill.db"}
    for name in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.setenv(name, "")
    try:
        conduct._settle(redis_url, databases, tmp_path)
        places.check_settings(wanted("shop"), redis_url, databases, settings.current())

        settings.configure(**changes)  # as its module does when it is imported
        with pytest.raises(Unsafe, match=said):
            places.check_settings(wanted("shop"), redis_url, databases, settings.current())
    finally:
        settings.use(None)


def test_a_database_where_reconcilers_run_is_refused(sqlite_url: str) -> None:
    engines = Engines({"default": sqlite_url})
    home = engines.home()
    migrate.upgrade(home)
    leases = Leases(home, ["Open"], 30.0, holder="web-1:77")
    leases.follow(["Open"])
    leases.register()
    leases.renew()

    with pytest.raises(Unsafe, match=r"reconcilers run on .*web-1:77"):
        places.prepare({"default": sqlite_url}, upgrade=False)

    leases.release()
    places.prepare({"default": sqlite_url}, upgrade=True)
    engines.dispose()
