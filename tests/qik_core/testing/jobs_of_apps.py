"""Jobs as an application has them, for the tests of its tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from textwrap import dedent
from typing import Any, ClassVar
from uuid import UUID

from qik_core import Job, job, registry

done: list[Any] = []
"""What the jobs did."""


def users(source: str) -> dict[str, str]:
    """A user's project of one test module."""
    return {"test_users.py": dedent(source)}


def mails(entries: Iterable[Any]) -> list[str]:
    return [each for each in entries if isinstance(each, str) and "@" in each]


# Other tests call jobs by the same names: these are known only while a test of ours runs (conftest.py).
_known = set(registry.names())
_scope = registry.scope()
_scope.__enter__()


class Charge(Job, queue="billing", retry=8):
    def perform(self, invoice_id: int, run: UUID) -> None:
        done.append((invoice_id, run))


class Mail(Job, queue="mail"):
    def perform(self, address: str) -> None:
        done.append(address)


class Tree(Job):
    """Pushes two of itself, one smaller each."""

    def perform(self, height: int) -> None:
        done.append(height)
        if height > 0:
            Tree.perform_async(height - 1)
            Tree.perform_async(height - 1)


class Once(Job, unique_for=timedelta(hours=1)):
    def perform(self, number: int) -> None:
        done.append(number)


class Failing(Job):
    def perform(self, number: int) -> None:
        raise KeyError(number)


class Saying(Job):
    """Says what becomes of it."""

    word: ClassVar[Exception]

    def perform(self, how: str) -> object:
        if how == "raised":
            raise self.word
        return self.word


@job
async def Greet(name: str) -> None:  # noqa: N802 - named like a class, as it is used
    done.append(f"hello {name}")


DEFINED = [
    found for name in registry.names() if name not in _known and (found := registry.find(name))
]
_scope.__exit__(None, None, None)
