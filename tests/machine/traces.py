"""What happened in a run, one event for each command that changed something, in the words of the model's traces."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from qik_core.payload import header
from qik_core.store import keys
from qik_core.store.exchange import Answer, Done
from qik_core.store.push import CODES
from tests.machine.running import run
from tests.machine.wire import Step
from tests.machine.world import EXCLUSIVE, Witness, World, digest

_NAMES: Final = {digest(number): number for number in range(EXCLUSIVE + 1)}
_PAGE: Final = 250  # entries that one step of a walk reads
Event = dict[str, Any]


class Recorder(Witness):
    """Turns steps into events. Processes are named by their identity at the time."""

    def __init__(self, *, healed: bool = False) -> None:
        self.events: list[Event] = []
        self._healed = healed
        self._stopped = False

    def step(self, world: World, step: Step) -> None:
        found = getattr(self, f"_{step.name}", None)
        if found is not None and not self._stopped:
            self.events += [{"event": step.name, **event} for event in found(world, step)]

    def note(self, event: str, identity: str) -> None:
        if not self._stopped:
            self.events.append({"event": event, "proc": identity})

    def healing(self) -> None:
        self._stopped = not self._healed

    def lines(self) -> list[str]:
        """Return the events, one JSON object each."""
        return [json.dumps(event) for event in self.events]

    # --- scripts: each yields the fields of its events ---------------------------

    def _push(self, world: World, step: Step) -> Iterator[Event]:
        if step.names[0] in step.before.names:  # sent again: nothing changed
            return
        codes, digests, jids = step.reply[0], _text(step.args[5]), _text(step.args[6])
        edge, timed = str(step.args[1]).startswith("e"), bool(step.args[8])
        for at, code in enumerate(codes):
            yield {
                "origin": "edge" if edge else "pass",
                "key": _NAMES.get(digests[at * 22 : at * 22 + 22]),
                "jid": jids[at * 24 : at * 24 + 24],
                "code": CODES[code].value,
                "timed": timed,
                "queue": step.args[2],
            }

    def _exchange(self, world: World, step: Step) -> Iterator[Event]:
        seq = int(step.args[1])
        answer = Answer.parse(step.reply, seq)
        process = next(one for one in world.processes if one.name == step.actor)
        sent = process.courier._sent
        yield {
            "proc": _proc(step),
            "seq": seq,
            "status": answer.status.value,
            "settled": [
                [_jid(one.job.raw), "done" if isinstance(one, Done) else one.kind.value]
                for one in (sent.outcomes if sent else ())
            ],
            "fetched": [_jid(job.raw) for job in answer.jobs],
        }

    def _beat(self, world: World, step: Step) -> Iterator[Event]:
        yield {"proc": step.args[1], "status": step.reply[0].decode()}

    def _assert(self, world: World, step: Step) -> Iterator[Event]:
        fields = [str(name, "ascii") for name in step.args[5::3] if isinstance(name, bytes)]
        there = {
            copy.field: copy.jid for copy in step.after.copies if copy.place == _text(step.names[0])
        }
        jids = [there.get(name.encode(), "") for name in fields]
        yield {
            "proc": _proc(step),
            "superseded": [there[name] for name in step.reply[3:] if name in there],
            "restored": step.args[3] != "",
            "held": [jid for jid in jids if jid],
            "settling": [
                jid for jid, mark in zip(jids, step.args[6::3], strict=True) if jid and mark == "s"
            ],
            "status": step.reply[0].decode(),
        }

    def _fence(self, world: World, step: Step) -> Iterator[Event]:
        if step.reply:
            yield {"proc": step.args[0], "by": step.actor, "sure": step.args[1] == b"sure"}

    def _leave(self, world: World, step: Step) -> Iterator[Event]:
        if step.reply:
            yield {"proc": _proc(step)}

    def _giveback(self, world: World, step: Step) -> Iterator[Event]:
        there = {
            copy.field: copy.jid
            for copy in step.before.copies
            if copy.place == _text(step.names[0])
        }
        jids = [
            there[name] for name in step.args[4::4] if isinstance(name, bytes) and name in there
        ]
        if step.names[0].startswith(keys.RECOVERING_PREFIX):
            yield {"event": "recover", "proc": _proc(step), "jids": jids}
        else:
            yield {"proc": _proc(step), "jids": jids, "status": step.reply[0].decode()}

    def _promote(self, world: World, step: Step) -> Iterator[Event]:
        place = _text(step.names[0])
        left = {copy.jid for copy in step.after.copies if copy.place == place}
        gone = [
            copy.jid for copy in step.before.copies if copy.place == place and copy.jid not in left
        ]
        if gone:
            yield {"jids": gone}

    def _roll_begin(self, world: World, step: Step) -> Iterator[Event]:
        if step.reply[1]:
            yield {}

    def _roll_walk(self, world: World, step: Step) -> Iterator[Event]:
        if 0 <= step.reply[0] < _PAGE:
            yield {"source": _text(step.names[0])}

    def _roll_end(self, world: World, step: Step) -> Iterator[Event]:
        yield {"result": step.reply}

    # --- people --------------------------------------------------------------------

    def _flush(self, world: World, step: Step) -> Iterator[Event]:
        yield {}

    def _delete(self, world: World, step: Step) -> Iterator[Event]:
        for name in set(step.before.names) - set(step.after.names):
            if name.startswith(keys.queue("")):
                yield {"event": "delete_queue", "queue": _text(name)[len("queue:") :]}
            elif name.startswith(keys.UNIQUE):
                yield {"event": "delete_locks"}
            else:
                yield {"event": "delete", "key": _text(name)}


def traces(
    url: str, *, examples: int, steps: int = 40, chance: int | None = None, healed: bool = False
) -> list[list[str]]:
    """Return the traces of so many runs, one list of JSON lines each; with the drain at the end of each if `healed`."""
    recorders: list[Recorder] = []

    def make() -> World:
        recorders.append(Recorder(healed=healed))
        return World(url, witness=recorders[-1])

    run(make, examples=examples, steps=steps, chance=chance)
    return [recorder.lines() for recorder in recorders]


def tally(events: Iterable[Event]) -> Counter[str]:
    """Count what happened, by event and what became of it."""
    found: Counter[str] = Counter()
    for event in events:
        for word in ("code", "status", "result"):
            found[f"{event['event']} {event.get(word, '')}".strip()] += 1
    return found


def _proc(step: Step) -> str:
    return _text(step.names[0]).split(":", 2)[2]


def _jid(raw: bytes) -> str:
    return (header(raw) or ("", "", ""))[1]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
