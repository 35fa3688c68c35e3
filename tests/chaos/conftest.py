from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.crasher import Crasher
from tests.servers import outliving


@pytest.fixture(scope="session")
def crasher() -> Iterator[Crasher]:
    """Processes that die at a chosen call."""
    with outliving():
        crasher = Crasher()
    yield crasher
    crasher.close()
