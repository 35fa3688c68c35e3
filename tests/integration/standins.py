"""A real parent over small children and helpers that are told what to do, and tell what happened to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from qik_core import parent as parent_module
from tests.waiting import whole_lines

PARENT = str(Path(parent_module.__file__).resolve())
ROOT = str(Path(PARENT).parent.parent)

CHILD = """
import ctypes, json, os, select, signal, subprocess, sys, time
from pathlib import Path
from qik_core.shared import Shared, State, clock

terms = json.loads(os.environ.pop("QIK_CHILD"))
mode = terms["settings"].get(str(terms["index"]), terms["settings"]["mode"])
folder = Path(terms["settings"]["folder"])
shared = Shared.attach(terms["shm"])

def tell(event):
    with open(folder / "events", "a") as file:
        file.write(f"{time.monotonic()} {terms['index']} {os.getpid()} {event}\\n")

tell("born")
if mode == "misconfigured":
    print("No module named 'shop'", file=sys.stderr)
    sys.exit(os.EX_CONFIG)
if mode == "fails":
    sys.exit(3)
asked = []
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTSTP, signal.SIGTTIN):
    signal.signal(number, lambda n, f: (asked.append(n), tell(signal.Signals(n).name)))
shared.identity = f"host:{os.getpid()}:{terms['index']}"
shared.start(0, b"1.0")
shared.start(2, b"1.7")
shared.tick(clock())
if mode != "boots":
    shared.state = State.READY
    tell("ready")
if mode == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
if mode == "exits":
    os._exit(0)
if mode == "gil":
    job = subprocess.Popen(["sleep", "60"])
    (folder / "job").write_text(str(job.pid))
    mutex = ctypes.create_string_buffer(64)
    ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    ctypes.PyDLL(None).pthread_mutex_lock(mutex)
if mode == "fat":
    ballast = bytearray(80 << 20)  # a copy of so much would be far too big for a moment
    for at in range(0, len(ballast), 4096):
        ballast[at] = 1
while signal.SIGTERM not in asked or mode == "stubborn":
    shared.tick(clock())
    if select.select([terms["life"]], [], [], 0.02)[0]:
        tell("orphaned")
        break
    if mode == "stubborn" and asked.count(signal.SIGTERM) > 1:
        break
shared.state = State.STOPPING
shared.clear(0)
shared.clear(2)
tell("left")
"""

HELPER = """
import json, os, sys, time
from pathlib import Path

settings = json.loads(os.environ["QIK_CHILD"])["settings"]
folder = Path(settings["folder"])
with open(folder / "helped", "a") as file:
    file.write(json.dumps([time.monotonic(), *sys.argv[1:]]) + "\\n")
if (folder / "redis is away").exists():
    sys.exit(4)
if (folder / "helper hangs").exists():
    time.sleep(60)
"""


class Worker:
    """A running parent and what its children told."""

    def __init__(self, folder: Path, mode: str, **changes: Any) -> None:
        self.folder = folder
        (folder / "child.py").write_text(CHILD)
        (folder / "helper.py").write_text(HELPER)
        modes = changes.pop("modes", {})
        extra = changes.pop("extra", {})
        spec = {
            "processes": 1,
            "slots": 4,
            "child": [sys.executable, str(folder / "child.py")],
            "recover": [sys.executable, "-S", str(folder / "helper.py")],
            "heartbeat": 0.5,
            "lease": 3.0,
            "shutdown": 2.5,
            "environment": {"PYTHONPATH": ROOT},
            "settings": {"folder": str(folder), "mode": mode, **modes},
            **changes,
        }
        self.errors = (folder / "stderr").open("wb")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-P", PARENT],
            env={**os.environ, "QIK_PARENT": json.dumps(spec), **extra},
            stderr=self.errors,
        )

    def events(self, what: str) -> list[list[str]]:
        """Return [time, index, pid] of each event of a kind."""
        lines = whole_lines(self.folder / "events")
        return [line.split()[:3] for line in lines if line.split()[3] == what]

    def pids(self, what: str) -> list[int]:
        return [int(event[2]) for event in self.events(what)]

    def helped(self) -> list[list[Any]]:
        return [json.loads(line) for line in whole_lines(self.folder / "helped")]

    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    def send(self, number: int) -> float:
        self.process.send_signal(number)
        return time.monotonic()

    def close(self) -> None:
        """End the parent and what it has spawned; a child whose GIL is held would stay."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.process.send_signal(signal.SIGSTOP)
        pids = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        self.process.kill()
        self.process.wait()
        self.errors.close()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
