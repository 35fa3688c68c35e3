"""pytest fixtures: `qik_fake`, `qik_inline`, `qik_real`. Loaded by pytest wherever this package is installed.

Importing this module imports nothing else of the package; a fixture does, when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def qik_fake() -> Iterator[Any]:
    """Jobs are kept in memory until the test performs them: a `qik_core.testing.Fake`."""
    from qik_core.testing.fakes import fake

    with fake() as jobs:
        yield jobs


@pytest.fixture
def qik_inline() -> Iterator[Any]:
    """Jobs are performed by the call that pushes them: a `qik_core.testing.Inline`."""
    from qik_core.testing.inlines import inline

    with inline() as jobs:
        yield jobs


@pytest.fixture
def qik_real() -> Iterator[Any]:
    """Jobs go to a private server, and `drain` is a real worker's loop: a `qik_core.testing.Real`."""
    from qik_core.testing.reals import real

    with real() as jobs:
        yield jobs
