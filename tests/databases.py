"""The kinds of databases that tests run on, and which tests need only one of them."""

from __future__ import annotations

from typing import Final

import pytest

DATABASES: Final = ("sqlite", "postgres", "mariadb")


def on(*fast: str) -> pytest.MarkDecorator:
    """Run a test on these kinds of databases, and among the slow tests on the others: it asks SQL nothing of its own."""
    kinds = [
        each if each in fast else pytest.param(each, marks=pytest.mark.slow) for each in DATABASES
    ]
    return pytest.mark.parametrize("database_url", kinds, indirect=True)
