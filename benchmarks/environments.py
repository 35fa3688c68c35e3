"""An environment for each peer, below `.cache/bench`, made anew when its requirements change."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.bench import ROOT

FOLDER: Final = ROOT / ".cache" / "bench"
_PATIENCE: Final = 900.0


class PeerAbsent(Exception):
    """A peer cannot be measured. The message says why."""


def environment(name: str, requirements: Path, folder: Path = FOLDER) -> Path:
    """Return the folder with the programs of an environment that has what the file asks for; makes it where needed.

    Raises:
        PeerAbsent: it cannot be made; with the end of what was said.
    """
    home = folder / name
    stamp, wanted = home / "stamp", _digest(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        _run(sys.executable, "-m", "venv", "--clear", str(home))
        pip = (str(home / "bin" / "python"), "-m", "pip", "install", "--quiet")
        _run(*pip, "--disable-pip-version-check", "--no-input", "-r", str(requirements))
        stamp.write_text(wanted)
    return home / "bin"


def versions(requirements: Path) -> dict[str, str]:
    """Return what the file pins: package → version."""
    pins = [line.split("==") for line in requirements.read_text().splitlines() if "==" in line]
    return {name.lower(): version for name, version in pins}


def _digest(requirements: Path) -> str:
    told = f"{sys.executable} {sys.version} {requirements.read_text()}"
    return hashlib.sha256(told.encode()).hexdigest()


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerAbsent(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise PeerAbsent(f"{' '.join(command)}: {' '.join(said[-3:])}")
