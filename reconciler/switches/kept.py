"""A small file of this user's own, in a folder that only this user can write to: what was known last, for the next start.

Nothing is read that anybody else may have written, and nothing but bytes is: whoever asks for them checks what they say.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

LARGEST: Final = 32_000_000
"""Bytes of a kept file at the most."""
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_SAFELY: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class NotKept(Exception):
    """The file or its folder cannot be used, or not be trusted. The message says why, and what to do."""


class Kept:
    """One file. It is replaced as a whole, so whoever reads it meets all of one version."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._folder / self._name

    def load(self) -> bytes | None:
        """Return what was saved last; None if nothing ever was.

        Raises:
            NotKept: it cannot be read, or somebody else may have written it.
        """
        try:
            with self._opened() as folder:
                return self._read(folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NotKept(f"{self.path} cannot be read: {error.strerror or error}") from None

    def save(self, raw: bytes) -> None:
        """Replace the file, readable and writable for this user alone. The folder is made if it is not there.

        Raises:
            NotKept: it cannot be written, or the folder is not this user's own.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._opened() as folder:
                self._write(folder, raw)
        except OSError as error:
            raise NotKept(f"{self.path} cannot be written: {error.strerror or error}") from None

    @contextmanager
    def _opened(self) -> Iterator[int]:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | _SAFELY)
        try:
            _check(os.fstat(folder), self._folder, "chmod 700 it, or name another folder")
            yield folder
        finally:
            os.close(folder)

    def _read(self, folder: int) -> bytes:
        handle = os.open(self._name, os.O_RDONLY | _SAFELY, dir_fd=folder)
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise NotKept(f"{self.path} is no file: remove it")
            _check(found, self.path, "remove it")
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise NotKept(f"{self.path} is larger than {LARGEST:,} bytes: remove it")
        return raw

    def _write(self, folder: int, raw: bytes) -> None:
        fresh = f".{self._name}.{os.getpid()}.{os.urandom(4).hex()}"
        handle = os.open(
            fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600, dir_fd=folder
        )
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(handle)
            os.replace(fresh, self._name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            with suppress(OSError):
                os.unlink(fresh, dir_fd=folder)
            raise


def _check(found: os.stat_result, path: Path, remedy: str) -> None:
    if found.st_uid not in {os.geteuid(), 0}:
        raise NotKept(f"{path} belongs to user {found.st_uid}, not to this one: {remedy}")
    if found.st_mode & _OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        raise NotKept(f"{path} can be written by others (mode {mode:o}): {remedy}")
