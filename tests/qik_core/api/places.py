"""What the tests of the programs' API share: jobs brought into each place by a worker, and a look at their locks."""

from __future__ import annotations

import json
import time
from typing import Any

from qik_core.api import (
    DeadSet,
    JobRecord,
    JobSet,
    LaterSet,
    Location,
    Queue,
    RetrySet,
    ScheduledSet,
    State,
)
from qik_core.store import Origin
from qik_core.store.exchange import Kind
from tests.qik_core.store.rig import Rig, jid, other

WHERE = Location(State.RETRY, b"retry")
PLACES = {
    "queue:default": Queue,
    "schedule": ScheduledSet,
    "qik:later:default": LaterSet,
    "retry": RetrySet,
    "dead": DeadSet,
}
TIMED = ["schedule", "qik:later:default", "retry"]


def place_of(rig: Rig, key: str) -> JobSet:
    place: JobSet = PLACES[key](store=rig.store)
    return place


def name(number: int) -> str:
    return jid(number).decode()


def record(**fields: Any) -> JobRecord:
    """A job with these fields, None leaving one out."""
    whole = {"jid": "j1", "queue": "default", "class": "Charge", "args": [7], **fields}
    kept = {key: value for key, value in whole.items() if value is not None}
    return JobRecord.of(json.dumps(kept).encode(), WHERE)


def put(rig: Rig, place: str, *numbers: int, **rest: Any) -> None:
    """Bring jobs into a place as a job gets there: pushed, scheduled, told by a pass, failed, or dead."""
    if place == "queue:default":
        rig.edge(*numbers, **rest)
    elif place == "schedule":
        rig.edge(*numbers, delays=[60.0 + number for number in range(len(numbers))], **rest)
    elif place == "qik:later:default":
        rig.push(*numbers, origin=Origin.PASS, delays=[60.0] * len(numbers), **rest)
    else:
        rig.edge(*numbers, **rest)
        worker = rig.worker(f"host:1:{numbers[0]:04x}")
        kind = Kind.DEAD if place == "dead" else Kind.RETRY
        while jobs := worker.fetch(500):
            worker.exchange(*(other(job, kind, 100.0 + n) for n, job in enumerate(jobs)), want=0)


def foreign(**fields: Any) -> bytes:
    """A payload as Ruby writes it."""
    whole = {
        "retry": True,
        "queue": "default",
        "args": [1],
        "class": "RubyJob",
        "jid": "29f3abc",
        "created_at": time.time(),
        **fields,
    }
    return json.dumps(whole, separators=(",", ":")).encode()


def count_of(rig: Rig, key: str) -> int:
    """What the conservation count of a key says."""
    return int(rig.raw.get(f"qik:n:{key}") or 0)


def nothing_missing(rig: Rig) -> bool:
    """Whether all lists hold as many of our jobs as were put there, and no count is too small either."""
    rig.raw.delete("qik:counts")
    for key in ("queue:default", "schedule", "retry", "qik:later:default", "qik:suspect:default"):
        kind = rig.raw.type(key)
        raws = (
            rig.raw.lrange(key, 0, -1)
            if kind == b"list"
            else rig.raw.zrange(key, 0, -1)
            if kind == b"zset"
            else []
        )
        ours = sum(raw.startswith(b'{"qik":') for raw in raws)
        assert count_of(rig, key) == ours, (key, count_of(rig, key), ours)
    return True
