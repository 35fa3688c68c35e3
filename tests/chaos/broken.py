"""Planted mistakes, for the enumerations to find."""

from __future__ import annotations

from typing import Final

from qik_core.payload import Payload
from tests.chaos.paths import Actor, Path, again, name
from tests.qik_core.store.rig import digest


def pop_then_push(actor: Actor) -> None:
    """Promote as Sidekiq's poller does."""
    moved = again(lambda: actor.link.call("ZPOPMIN", "schedule"))
    again(lambda: actor.link.call("LPUSH", "queue:default", moved[0]))


def push_then_lock(actor: Actor) -> None:
    """Push in two steps."""
    payload = Payload({"class": "Charge", "args": [1], "jid": name(1), "queue": "default"})
    lock = f"q0------9999999999{name(1)}"
    held = again(lambda: actor.link.call("HSETNX", "qik:unique:made", digest(1), lock))
    if held:
        again(lambda: actor.link.call("LPUSH", "queue:default", payload.encode()))


def blindly(actor: Actor) -> None:
    """Push once more whatever became of the first push."""
    job = b'{"class":"Charge","args":[1],"jid":"1","queue":"default"}'
    again(lambda: actor.link.call("LPUSH", "queue:default", job))


BROKEN: Final = {
    path.name: path
    for path in (
        Path("pop then push", pop_then_push, lambda rig: rig.push(1, delays=[60])),
        Path("lock then push", push_then_lock),
        Path("push without a number", blindly),
    )
}
