from __future__ import annotations

from collections.abc import Iterator

import pytest

from qik_core import registry, settings
from qik_core.settings import Settings
from qik_core.testing import Fake, Inline, Real, fake, inline, real
from tests.qik_core.testing.jobs_of_apps import DEFINED, done


@pytest.fixture(autouse=True)
def _own() -> Iterator[None]:
    """Settings, names and effects of one test's own."""
    settings.use(Settings())
    done.clear()
    with registry.scope():
        for definition in DEFINED:
            registry.register(definition)
        yield
    settings.use(None)


@pytest.fixture
def jobs() -> Iterator[Fake]:
    with fake() as mode:
        yield mode


@pytest.fixture
def at_once() -> Iterator[Inline]:
    with inline() as mode:
        yield mode


@pytest.fixture
def server() -> Iterator[Real]:
    with real() as mode:
        yield mode
