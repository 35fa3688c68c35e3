"""Reading a file: what a document is worth knowing, and nothing of databases or queues."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

_STEPS_PER_SECOND = 20
_LEAST = 1024


@dataclass(frozen=True, slots=True)
class Found:
    """What is stored about a file."""

    size: int
    sha256: str
    words: int


def read(path: Path, rate: int) -> Found:
    """Return what is in a file, reading at most `rate` bytes a second.

    Raises:
        OSError: the file cannot be read.
    """
    began = time.monotonic()
    content = bytearray()
    step = max(rate // _STEPS_PER_SECOND, _LEAST)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(step):
            content += chunk
            time.sleep(max(0.0, began + len(content) / rate - time.monotonic()))
    return describe(bytes(content))


def describe(content: bytes) -> Found:
    """Return what is stored about these bytes."""
    return Found(len(content), hashlib.sha256(content).hexdigest(), len(content.split()))
