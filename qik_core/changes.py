"""Source files that change: what `qik dev` looks at. Standard library only."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path


class Sources:
    """The Python files of an application, to be asked now and then whether they have changed."""

    def __init__(self, app: str) -> None:
        """Take the files as they are now; `app` is a module that can be found."""
        self._app = app
        self._taken = self._latest = self._read()

    def changed(self) -> list[Path]:
        """Return the files that were made, edited or removed since they were last returned.

        Not before two looks have seen the same: whoever writes many files is left to finish.
        """
        now = self._read()
        settled, self._latest = now == self._latest, now
        if not settled:
            return []
        before, self._taken = self._taken, now
        return sorted({path for path, _ in before.items() ^ now.items()})

    def _read(self) -> dict[Path, int]:
        found = {}
        for path in sources_of(self._app):
            try:
                found[path] = path.stat().st_mtime_ns
            except OSError:  # it was removed meanwhile
                continue
        return found


def sources_of(app: str) -> Iterator[Path]:
    """Yield the Python files of an application's package, or, of a module alone, those beside it and their packages."""
    top = app.partition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None:
        return
    for folder in spec.submodule_search_locations or ():
        yield from _below(Path(folder))
    if not spec.submodule_search_locations and spec.origin is not None:
        beside = Path(spec.origin).parent
        yield from beside.glob("*.py")
        for package in beside.glob("*/__init__.py"):
            yield from _below(package.parent)


def _below(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        yield from (Path(here, name) for name in files if name.endswith(".py"))
