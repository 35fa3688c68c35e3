"""Whether two URLs lead to one database."""

from __future__ import annotations

from pathlib import Path
from socket import gethostname

import pytest

from reconciler.drill.addresses import same

ONE = "postgresql://shop:secret@localhost/shop"
SAME = [
    "postgresql+psycopg://shop:secret@localhost/shop",
    "postgresql+asyncpg://other:word@localhost:5432/shop?sslmode=require",
    "postgresql://127.0.0.1/shop",
    "postgresql://[::1]:5432/shop",
    "postgresql://LOCALHOST/shop",
    "postgresql:///shop",
    "postgresql:///shop?host=/var/run/postgresql",
    "postgresql:///shop?host=127.0.0.1&port=5432",
    "postgresql:///shop?host=db1:5432&host=localhost:5432",
    "postgresql:///shop?host=db1:5433&host=localhost",  # which has no port of its own
    "postgresql:///shop?host=db1,localhost&port=5433,",
    f"postgresql://{gethostname()}/shop",
    "postgresql://shop@localhost",  # the database is called as the user unless it is named
]
OTHER = [
    "postgresql://shop:secret@localhost/shop_staging",
    "postgresql://shop:secret@localhost:5433/shop",
    "postgresql://shop:secret@db/shop",
    "postgresql:///shop?host=/var/run/postgresql&port=5433",
    "mysql://shop:secret@localhost/shop",
    "sqlite:///shop",
    "no URL at all",
]


@pytest.mark.parametrize("other", SAME)
def test_one_database_is_known_whatever_driver_user_and_name_of_this_machine(other: str) -> None:
    assert same(ONE, other)
    assert same(other, ONE)


@pytest.mark.parametrize("other", OTHER)
def test_another_host_port_or_database_is_another(other: str) -> None:
    assert not same(ONE, other)
    assert not same(other, ONE)


def test_one_address_of_ipv6_is_known_however_it_is_written() -> None:
    assert same("postgresql://[2001:db8::1]/shop", "postgresql://[2001:DB8:0:0:0:0:0:1]/shop")
    assert not same("postgresql://[2001:db8::1]/shop", "postgresql://[2001:db8::2]/shop")


def test_a_mariadb_is_known_by_both_names_and_by_its_socket() -> None:
    socket = "mysql+pymysql://shop@/shop?unix_socket=/run/mysqld/mysqld.sock"

    assert same("mariadb+pymysql://a:b@127.0.0.1/shop", "mysql://localhost:3306/shop")
    assert same(socket, "mariadb://localhost:3307/shop")  # a socket does not say its port
    assert not same(socket, "mariadb://db/shop")


def test_a_file_is_known_by_any_path_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.db").symlink_to(tmp_path / "shop.db")

    for each in ("shop.db", "./shop.db", "link.db", "file:shop.db?uri=true"):
        assert same(f"sqlite:///{tmp_path}/shop.db", f"sqlite+aiosqlite:///{each}")
    assert not same("sqlite:///shop.db", "sqlite:///other.db")
    assert not same("sqlite://", "sqlite:///:memory:")
