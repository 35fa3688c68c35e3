"""The demo's input: real files of the running Python."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LARGE = 6
"""How many of the rows are large files that arrive while the others are worked off."""
_LARGE_SECONDS = 6.0
_LONGEST = 2.0
_PACKAGES = ("site-packages", "dist-packages")


class TooFewFiles(Exception):
    """The running Python does not have as many files as rows were asked for."""


@dataclass(frozen=True, slots=True)
class Input:
    """One row before it is in the database."""

    id: int
    path: str
    rate: int
    """Bytes a second."""
    large: bool


def choose(rows: int, seconds: float, threads: int) -> list[Input]:
    """Return this many files, to be read by this many threads in about so many seconds.

    The standard library comes first; installed packages make up the number where a distribution ships little of it.

    Raises:
        TooFewFiles: there are not so many.
    """
    found: list[tuple[Path, int]] = []
    for path in _candidates():
        if len(found) == rows:
            break
        found.append((path, path.stat().st_size))
    if len(found) < rows:
        raise TooFewFiles(
            f"{rows} rows were asked for and this Python has {len(found)} files: use --rows {len(found)} or less"
        )
    return _paced(found, seconds, threads)


def _candidates() -> Iterator[Path]:
    paths = sysconfig.get_paths()
    yield from _sources(Path(paths["stdlib"]), skip=_PACKAGES)
    yield from _sources(Path(paths["purelib"]), skip=())


def _sources(top: Path, skip: tuple[str, ...]) -> Iterator[Path]:
    for folder, names, files in os.walk(top):
        names[:] = sorted(set(names) - set(skip) - {"__pycache__"})
        yield from (path for name in sorted(files) if _usable(path := Path(folder, name)))


def _usable(path: Path) -> bool:
    return path.suffix == ".py" and path.is_file() and os.access(path, os.R_OK)


def _paced(found: list[tuple[Path, int]], seconds: float, threads: int) -> list[Input]:
    largest = sorted(found, key=lambda item: item[1])[-min(LARGE, len(found) // 2) :]
    large = {path for path, _ in largest}
    total = sum(size for path, size in found if path not in large)
    common = max(int(total / (seconds * threads)), 1)
    return [
        Input(number, str(path), _rate(size, common, large=path in large), path in large)
        for number, (path, size) in enumerate(found, start=1)
    ]


def _rate(size: int, common: int, *, large: bool) -> int:
    """Return bytes a second: no file takes longer than the longest, and a large one takes just that long."""
    if large:
        return max(int(size / _LARGE_SECONDS), 1)
    return max(common, int(size / _LONGEST), 1)
