"""A client on a test's own server, and one with a chain of middleware."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qik_core.client import Client
from qik_core.middleware import ClientMiddleware
from qik_core.settings import Settings
from qik_core.store import Store


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    made = Store(redis_url, birth_ms=0)
    yield made
    made.close()


@pytest.fixture
def pusher(store: Store) -> Client:
    return Client(store)


def with_chain(store: Store, *chain: ClientMiddleware) -> Client:
    return Client(store, Settings(client_middleware=chain))
