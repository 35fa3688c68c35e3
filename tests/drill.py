"""`make drill`: a private PostgreSQL and a private Redis, and a drill on them; or on what is named.

    python -m tests.drill [--database-url URL] [--redis-url URL] [options of `reconciler drill`]

What is named breaks or is worked off only if --i-mean-it is said beside it: that is said here for the private servers
alone. Installs nothing: without PostgreSQL or redis-server on this machine it says so and how to get them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from qik_core.embedded import Embedded, Kind, NoServer
from tests.servers import Postgres, find_postgres

DATABASE, REDIS, MEANT = "--database-url", "--redis-url", "--i-mean-it"
ABSENT = "drill: {} is not installed. Install it, or run with PROVISION=1 as root, or name one: make drill {}=…\n"


def main(given: Sequence[str]) -> int:
    """Run the drill; returns its exit code."""
    with servers(given) as words:
        if words is None:
            return 2
        command = [sys.executable, "-m", "reconciler.cli", "drill", *words, *given]
        with subprocess.Popen(command) as process:
            while process.poll() is None:
                with suppress(KeyboardInterrupt):  # it has heard it, too, and ends by itself
                    process.wait()
        return process.returncode


@contextmanager
def servers(given: Sequence[str]) -> Iterator[list[str] | None]:
    """Yield what to say of the private servers, beside what was given; None where one is not installed."""
    if _named(DATABASE, given):
        yield []  # the flag would mean that database, too; the drill has a private Redis without it
    elif _named(REDIS, given):
        with _postgres() as database:
            yield database
    else:
        with _postgres() as database, _redis() as redis:
            yield None if database is None or redis is None else [*database, *redis, MEANT]


@contextmanager
def _postgres() -> Iterator[list[str] | None]:
    if find_postgres() is None:
        sys.stderr.write(ABSENT.format("PostgreSQL", "DATABASE_URL"))
        yield None
        return
    server = Postgres()
    server.start()
    try:
        with server.database() as url:
            yield [DATABASE, url]
    finally:
        server.stop()


@contextmanager
def _redis() -> Iterator[list[str] | None]:
    try:
        server = Embedded(Kind.REDIS)
    except NoServer:
        sys.stderr.write(ABSENT.format("redis-server", "REDIS_URL"))
        yield None
        return
    with server:
        yield [REDIS, server.url]


def _named(option: str, given: Sequence[str]) -> bool:
    return any(word == option or word.startswith(f"{option}=") for word in given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
