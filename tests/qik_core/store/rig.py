"""What the tests of the scripts share: jobs with keys, pushed and fetched by hand."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from typing import Any

from qik_core.payload import Payload, Template, stamps
from qik_core.results import Code
from qik_core.store import Chunk, Origin, Pushed, Store
from qik_core.store.exchange import Answer, Done, Fetched, Kind, Other, Outcome
from qik_core.store.link import Link
from qik_core.store.worker import Limits, WorkerStore

LIMITS = Limits(heartbeat=0.5, lease=3.0)


def digest(key: int) -> bytes:
    return base64.urlsafe_b64encode(hashlib.blake2b(b"%d" % key, digest_size=16).digest())[:22]


def jid(number: int) -> bytes:
    return b"%024x" % number


class Rig:
    """A store and a link on one server; keys and jids are numbers."""

    def __init__(self, url: str, raw: Any, *, birth_ms: int | None = 0) -> None:
        self.url = url
        self.raw = raw
        self.store = Store(url, birth_ms=birth_ms)
        self.link = Link(url)
        self.store.look()

    def push(
        self,
        *numbers: int,
        keys: Sequence[int] | None = None,
        queue: str = "default",
        seconds: int = 60,
        unique: bool = True,
        until: Any = "success",
        **rest: Any,
    ) -> Pushed:
        """Push jobs whose jid, key and argument are these numbers; `keys` gives other keys."""
        held = list(keys or numbers)
        mark = b"S" if until == "success" else b"T"
        forms = [digest(key) + mark + b"%d" % seconds if unique else b"-" for key in held]
        timed = "delays" in rest or "due" in rest
        template = Template(queue, {"class": "Charge", "retry": 25})
        tail = stamps(time.time(), queued=not timed)
        return self.store.push(
            Chunk(
                queue=queue,
                jids=[jid(number) for number in numbers],
                payloads=[
                    template.build(form, jid(number), b"[%d]" % number, tail)
                    for form, number in zip(forms, numbers, strict=True)
                ],
                digests=[digest(key) for key in held] if unique else None,
                seconds=seconds,
                until=until,
                **rest,
            )
        )

    def tell(self, *numbers: int, **rest: Any) -> list[Code]:
        """Push as a pass; returns the codes."""
        return list(self.push(*numbers, origin=Origin.PASS, **rest).codes)

    def edge(self, *numbers: int, **rest: Any) -> list[Code]:
        """Push as an application; returns the codes."""
        return list(self.push(*numbers, **rest).codes)

    def worker(self, identity: str = "host:1:aaaa") -> Worker:
        return Worker(self, identity)

    def lock(self, key: int) -> str | None:
        """Return the record of a key in the present generation."""
        record = self.raw.hget("qik:unique:" + self.store.look().generation, digest(key))
        return None if record is None else record.decode()

    def locks(self) -> int:
        """Return how many locks there are in all generations."""
        counts = [self.raw.hlen(key) for key in self.raw.scan_iter("qik:unique:*")]
        return sum(count - 1 for count in counts if count)  # a roll may remove one in between

    def queued(self, queue: str = "default") -> list[str]:
        """Return the jids on a queue, next to be fetched first."""
        return [
            Payload.decode(raw).jid for raw in reversed(self.raw.lrange(f"queue:{queue}", 0, -1))
        ]


class Worker:
    """A process that exchanges by hand."""

    def __init__(self, rig: Rig, identity: str) -> None:
        self.rig = rig
        self.identity = identity
        self.store = WorkerStore(identity, LIMITS, rig.store.candidate)
        self.sequence = 0
        self.store.hold(rig.link, (), mark="0:0")

    def exchange(
        self, *outcomes: Outcome, want: int = 10, queues: Sequence[str] = ("default",)
    ) -> Answer:
        """One exchange under the next number, which is kept if the answer used it."""
        answer = self.send(self.sequence + 1, *outcomes, want=want, queues=queues)
        if answer.status in ("done", "again"):
            self.sequence += 1
        return answer

    def send(
        self,
        sequence: int,
        *outcomes: Outcome,
        want: int = 10,
        queues: Sequence[str] = ("default",),
    ) -> Answer:
        call = self.store.prepare(outcomes, queues, want)
        return self.store.exchange(self.rig.link, sequence, call)

    def fetch(self, want: int = 10) -> list[Fetched]:
        return list(self.exchange(want=want).jobs)

    def beat(self) -> set[bytes] | None:
        """Beat as the heartbeat does: say so, then renew what Redis says is held."""
        beat = self.store.beat(self.rig.link, ["info", "{}", "busy", 0])
        if beat.fenced:
            return None
        from qik_core.store.worker import Held

        return self.store.hold(
            self.rig.link,
            [Held(field, False) for field in beat.fields],
            generation=beat.epoch.generation,
        )

    @property
    def held(self) -> int:
        return sum(
            name not in (b"#", b"@") for name in self.rig.raw.hkeys(f"qik:working:{self.identity}")
        )


def done(job: Fetched) -> Done:
    return Done(job)


def other(job: Fetched, kind: Kind, delay: float = 0.0) -> Other:
    payload = Payload.decode(job.raw)
    after = payload.replace(retry_count=0)
    return Other(job, kind, payload.unique, payload.jid, job.queue, after.encode(), delay)
