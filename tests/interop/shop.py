"""The Python side of the shop: the same class names as in peer/jobs.rb, and notes of what ran in the same file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from qik_core import Job
from tests.waiting import eventually

RUBY = "ruby"
"""The queue that only Ruby workers serve."""


def note(event: str, job: Job, *args: Any) -> None:
    jid = job.context.jid
    line = {
        "who": "python",
        "event": event,
        "class": type(job).__name__,
        "jid": jid,
        "args": args,
    }
    with Path(os.environ["SHOP_NOTES"]).open("a") as file:
        file.write(json.dumps(line) + "\n")


class Echo(Job, name="Shop::Echo"):
    def perform(self, number: Any, value: Any = None) -> None:
        note("ran", self, number, value)


class Fragile(Job, name="Shop::Fragile", retry=3):
    """Fails until the file `mended` is there."""

    def perform(self, number: int) -> None:
        note("ran", self, number)
        if not Path(os.environ["SHOP_MENDED"]).exists():
            raise ValueError("not mended: é")
        note("mended", self, number)


class Once(Job, name="Shop::Once", unique_for=600):
    def perform(self, number: int) -> None:
        note("ran", self, number)


class Nap(Job, name="Shop::Nap", unique_for=600):
    """Runs until the file `mended` is there."""

    def perform(self, number: int) -> None:
        note("began", self, number)
        eventually(Path(os.environ["SHOP_MENDED"]).exists, 60)
        note("ran", self, number)
