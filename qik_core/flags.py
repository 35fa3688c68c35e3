"""Whose flag is whose: two things of one application must not be switched off by one flag that means only one of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from qik_core.errors import DefinitionError

_lock: Final = threading.Lock()
_owners: Final[dict[str, str]] = {}


def claim(flag: str, owner: str) -> None:
    """Note whose flag this is; `owner` as an error names it: `the job 'Charge'`. The same owner may claim it again.

    Raises:
        DefinitionError: it is another's.
    """
    with _lock:
        there = _owners.setdefault(flag, owner)
    if there != owner:
        raise DefinitionError(
            f"{owner} and {there} have one kill switch, {flag}: whoever turns it would stop both: give one of them "
            "another name"
        )


@contextmanager
def scope(*, empty: bool = False) -> Iterator[None]:
    """Forget at the end whatever was claimed inside; `empty` hides what was claimed before."""
    with _lock:
        before = dict(_owners)
        if empty:
            _owners.clear()
    try:
        yield
    finally:
        with _lock:
            _owners.clear()
            _owners.update(before)
