"""Bytes that must never be unpickled: whoever does so leaves a mark."""

from __future__ import annotations

import os
from pathlib import Path


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self._mark),)
