"""Files that appear whole: written under another name by one process at a time, and never in place of one that is there."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import IO, Final

from reconciler.errors import ReconcilerError

PART: Final = ".part"
MODE: Final = 0o600
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class FileInTheWay(ReconcilerError):
    """There is a file of this name, which would be lost."""


def part_of(path: Path) -> Path:
    """Return where the jobs of a file are until it is whole."""
    return path.with_name(path.name + PART)


def locked(path: Path, *, fresh: bool) -> IO[bytes]:
    """Return the part of a file, which this process alone writes now. Raises FileInTheWay."""
    part = part_of(path)
    while True:
        _check_free(path)
        file = _opened(part)
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(file, part):  # else the other one has finished it meanwhile
                _check_free(path)
                _check_fresh(file, path, fresh=fresh)
                return file
        except BlockingIOError:
            file.close()
            raise FileInTheWay(f"another process writes {part}: name another file") from None
        except BaseException:
            if is_at(file, part) and not os.fstat(file.fileno()).st_size:
                part.unlink()
            file.close()
            raise
        file.close()


def _check_free(path: Path) -> None:
    if os.path.lexists(path):
        raise FileInTheWay(f"{path} exists already: name another file, or move that one")


def _check_fresh(file: IO[bytes], path: Path, *, fresh: bool) -> None:
    if fresh and os.fstat(file.fileno()).st_size:
        raise FileInTheWay(
            f"{part_of(path)} exists: a flush that died has kept jobs in it. Run that flush again with "
            f"--export {path}, which finishes the file; or name another file"
        )


def is_at(file: IO[bytes], path: Path) -> bool:
    """Whether an open file is the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def appear(fresh: Path, path: Path) -> None:
    """Give a file its name, and never in place of another one. Raises FileInTheWay."""
    try:
        os.link(fresh, path)
    except FileExistsError:
        fresh.unlink()
        raise FileInTheWay(
            f"{path} has appeared meanwhile. All jobs are in {part_of(path)}: move {path}, and run the same command again"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _check_free(path)
        fresh.rename(path)
    else:
        fresh.unlink()


def _opened(path: Path) -> IO[bytes]:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, MODE), "r+b", buffering=1 << 16)


def sync_folder(path: Path) -> None:
    """Let the name of a file be on disk."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
