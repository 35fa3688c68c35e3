"""Rows of a test, in a set: what fills the seam in place of `reconciler`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from qik_core import Job, registry
from qik_core.checks import Checks
from qik_core.rows import Asked, Standing
from qik_core.store.exchange import Fetched


class Session:
    """A session that is its own name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> str:
        return self._name

    def __exit__(self, *ended: object) -> None: ...

    async def __aenter__(self) -> str:
        return self._name

    async def __aexit__(self, *ended: object) -> None: ...


class Table:
    """Rows by number. What is in `pending` matches; `fails` lets look raise, `down` lets it answer that nothing is known."""

    def __init__(self, *pending: int) -> None:
        self.pending = set(pending)
        self.checks = True
        self.progresses = True
        self.down = False
        self.fails: BaseException | None = None
        self.taken: set[int] = set()
        """Rows that another run has."""
        self.looks: list[list[int]] = []
        self.gate = threading.Event()
        """Closed, questions hang."""
        self.gate.set()
        self.held: list[tuple[str, int]] = []
        self.others: frozenset[str] = frozenset()
        """Job classes that no reconciler tells."""

    def reconciled(self, name: str, /) -> bool:
        return name not in self.others

    def checked(self, name: str, /) -> bool:
        return self.checks

    def progress(self, name: str, /) -> bool:
        return self.progresses

    def look(self, asked: Sequence[Asked], /) -> Sequence[Standing]:
        self.looks.append([each.args[0] for each in asked])
        assert self.gate.wait(20)
        if self.fails is not None:
            raise self.fails
        if self.down:
            return [Standing.UNKNOWN] * len(asked)
        return [
            Standing.PENDING if each.args[0] in self.pending else Standing.GONE for each in asked
        ]

    def row(self, name: str, args: tuple[Any, ...], /) -> Any:
        return {"number": args[0]} if args[0] in self.pending else None

    def session(self, name: str, args: tuple[Any, ...], /) -> Session:
        return Session(f"session of {name}({args[0]})")

    def guarded(self, name: str, args: tuple[Any, ...], /) -> AbstractContextManager[bool]:
        return self._guard(args[0])

    @contextmanager
    def _guard(self, number: int) -> Iterator[bool]:
        if number in self.taken:
            yield False
            return
        self.held.append(("taken", number))
        try:
            yield True
        except BaseException:
            self.held.append(("failed", number))
            raise
        self.held.append(("left", number))


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def asked(number: int) -> Asked:
    return Asked("Row", (number,), "")


def field(number: int) -> bytes:
    return b"1.%d" % number


def job(number: int, name: str = "Row", args: Sequence[object] | None = None) -> Fetched:
    given = [number] if args is None else args
    body = {"qik": "-", "jid": "j", "queue": "q", "class": name, "args": given}
    return Fetched(field(number), json.dumps(body, separators=(",", ":")).encode(), "q")


def before(desk: Checks, table: Table, number: int) -> Standing:
    return desk.before(table, asked(number), field(number))


# --- fixtures of the tests that ask by many threads ------------------------------------------


@pytest.fixture
def row() -> Iterator[None]:
    """The job whose rows are asked for."""
    with registry.scope():

        class Row(Job, unique_for=60):
            def perform(self, n: int) -> None: ...

        yield


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(clock: Clock) -> Checks:
    return Checks(registry.find, lambda: None, clock)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool
