from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker

from qik_core.errors import SettingsError
from reconciler.engines import Engines


def test_a_name_has_one_engine(sqlite_url: str) -> None:
    engines = Engines({"default": sqlite_url})

    assert engines.home() is engines.engine("default")
    engines.dispose()


def test_an_engine_and_a_sessionmaker_are_taken_as_they_are(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    engines = Engines({"default": engine, "other": sessionmaker(engine)})

    assert engines.home() is engine
    assert engines.engine("other") is engine
    engine.dispose()


def test_disposing_leaves_the_applications_engine_alone(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    engines = Engines({"default": engine})
    engines.home()

    engines.dispose()

    assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    engine.dispose()


def test_a_missing_database_says_how_to_name_one() -> None:
    with pytest.raises(SettingsError, match=r"known: none.*DATABASE_URL, `databases.default`"):
        Engines({}).home()
    with pytest.raises(SettingsError, match="DATABASE_URL_BILLING"):
        Engines({"default": "sqlite://"}).engine("billing")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("no url", "cannot be used"),
        ("nodatabase://x/y", "cannot be used"),
        (5, "int: give a URL"),
        (sessionmaker(), "sessionmaker: give a URL"),
    ],
    ids=str,
)
def test_what_cannot_be_an_engine_is_refused_with_the_remedy(given: object, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Engines({"default": given}).home()


def test_a_sqlite_file_is_put_into_wal(tmp_path: object) -> None:
    engines = Engines({"default": f"sqlite:///{tmp_path}/new.db"})

    with engines.home().connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 30_000
    engines.dispose()


def test_connections_to_postgresql_give_up_on_a_silent_server(postgres_url: str) -> None:
    engines = Engines({"default": postgres_url})

    with engines.home().connect() as connection:
        raw = connection.connection.driver_connection
        parameters = raw.info.get_parameters()  # type: ignore[union-attr]
    assert parameters["tcp_user_timeout"] == "30000"
    assert parameters["connect_timeout"] == "3"
    engines.dispose()
