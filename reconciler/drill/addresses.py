"""Whether two URLs lead to one database, as far as they can say: drivers, users, passwords and options do not matter.

This machine has many names, and a server that it runs is reached by a socket, too. Nothing is asked of any server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from socket import gethostname
from typing import Final

from sqlalchemy import URL, exc, make_url

_HERE: Final = ""
"""The one name by which this machine is called here."""
_KINDS: Final = {"mariadb": "mysql"}
_PORTS: Final = {"postgresql": "5432", "mysql": "3306"}
_FILE: Final = "file:"


@dataclass(frozen=True, slots=True)
class _Address:
    """Where a URL leads. No ports: any, since the socket of a MariaDB does not say its port."""

    kind: str
    database: str
    hosts: frozenset[str] = frozenset()
    ports: frozenset[str] = frozenset()


def same(one: str, other: str) -> bool:
    """Return whether two URLs lead to one database; of what is no URL, whether it is the same text."""
    if one == other:
        return True
    first, second = _address(one), _address(other)
    if (
        first is None
        or second is None
        or (first.kind, first.database) != (second.kind, second.database)
    ):
        return False
    meet = not first.ports or not second.ports or first.ports & second.ports
    return bool(first.hosts & second.hosts and meet)


def _address(text: str) -> _Address | None:
    """Return where a URL leads; None for what is no URL, and for a database that nobody else can reach."""
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError):
        return None
    kind = _KINDS.get(url.get_backend_name(), url.get_backend_name())
    if kind == "sqlite":
        return _file(url)
    database = url.database or (url.username or "" if kind == "postgresql" else "")
    given = _said(url, "host") + _said(url, "unix_socket") + ([url.host] if url.host else [])
    socket = "unix_socket" in url.query
    hosts, with_port = [], []
    for each in given:
        name, colon, port = each.rpartition(":") if each.count(":") == 1 else (each, "", "")
        hosts.append(_host(name))
        with_port += [port] if colon and port else []
    ports = with_port + _said(url, "port") + ([str(url.port)] if url.port else [])
    known = list(ports)
    if len(ports) < max(len(hosts), 1):  # a host without a port of its own may be at the default
        known.append(_PORTS.get(kind, ""))
    return _Address(
        kind, database, frozenset(hosts or [_HERE]), frozenset() if socket else frozenset(known)
    )


def _file(url: URL) -> _Address | None:
    name = (url.database or "").removeprefix(_FILE)
    if name in ("", ":memory:") or url.query.get("mode") == "memory":
        return None
    return _Address("sqlite", str(Path(name).resolve()), frozenset([_HERE]))


def _said(url: URL, name: str) -> list[str]:
    """Return what the query of a URL says: PostgreSQL takes several hosts and ports there."""
    said: Sequence[str] | str = url.query.get(name, ())
    texts = [said] if isinstance(said, str) else said
    return [each for each in chain.from_iterable(text.split(",") for text in texts) if each]


def _host(name: str) -> str:
    """Return the name of a host; one for all names of this machine."""
    lower = name.lower().rstrip(".")
    if lower.startswith(("/", "@")) or lower in ("localhost", gethostname().lower()):
        return _HERE
    try:
        address = ip_address(lower)
    except ValueError:
        return lower
    return _HERE if address.is_loopback else str(address)
