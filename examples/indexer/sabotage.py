"""Breaks one part of the engine on purpose, to see that the verdict notices. The engine itself knows nothing of this.

`apply` patches the engine inside a process of the demo. Run as a module it stands in front of a command, for what
happens in processes that import no application:

    python -m examples.indexer.sabotage qik_core.cli work …
"""

from __future__ import annotations

import json
import os
import random
import re
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec
from sqlalchemy import ColumnElement

from examples.indexer import evidence, jobs
from examples.indexer.evidence import Evidence
from examples.indexer.models import Document
from qik_core.parent import SPEC_VARIABLE
from qik_core.store import keys, recovery
from qik_core.store.epoch import Epoch
from qik_core.store.exchange import Answer
from qik_core.store.link import Arg, Link
from qik_core.store.push import Chunk
from qik_core.store.store import Sending, Store
from qik_core.store.worker import WorkerStore

_HEADER: Final = re.compile(rb'^\{"qik":"[^"]*"')


class Part(StrEnum):
    """What can be broken."""

    LOCK = "lock"
    FETCH = "fetch"
    EPOCH = "epoch"
    GUARD = "guard"
    RECOVERY = "recovery"
    VERDICT = "verdict"


def apply(part: str) -> None:
    """Break this part in this process; nothing when empty."""
    if part:
        _BREAK[Part(part)]()


def _no_locks() -> None:
    """Push every job without its lock, and find nothing told."""
    send = Store.send

    def unlocked(store: Store, chunk: Chunk, **options: Any) -> Sending:
        bare = [_HEADER.sub(b'{"qik":"-"', payload) for payload in chunk.payloads]
        chunk = msgspec.structs.replace(chunk, digests=None, payloads=bare)
        return send(store, chunk, **options)

    def untold(store: Store, digests: Sequence[bytes], *_: object) -> tuple[list[bool], Epoch]:
        return [False] * len(digests), store.look()

    _patch(Store, "send", unlocked)
    _patch(Store, "told", untold)


def _no_working_hash() -> None:
    """Take jobs out of Redis altogether when they are fetched, as a plain BRPOP does."""
    exchange = WorkerStore.exchange

    def forgetful(store: WorkerStore, link: Link, sequence: int, call: Sequence[Arg]) -> Answer:
        answer = exchange(store, link, sequence, call)
        if answer.jobs:
            link.call("HDEL", keys.working(store.identity), *(job.field for job in answer.jobs))
        return answer

    _patch(WorkerStore, "exchange", forgetful)


def _no_assertion() -> None:
    """Ignore that the epoch has changed: what runs is not asserted."""
    hold = WorkerStore.hold

    def deaf(store: WorkerStore, link: Link, _held: object, *, mark: str = "") -> set[bytes] | None:
        return hold(store, link, (), mark=mark)

    _patch(WorkerStore, "hold", deaf)


def _no_guard() -> None:
    """Let the effect happen as often as the job runs."""

    def unguarded(document_id: int) -> ColumnElement[bool]:
        return Document.id == document_id

    _patch(jobs, "guard", unguarded)


def _no_recovery() -> None:
    """Convict nobody; and let the parent send helpers that do nothing."""

    def never(*_: object) -> bool:
        return False

    _patch(recovery, "fence", never)
    execute = os.execve

    def without_helper(path: Any, argv: Any, env: Any) -> NoReturn:
        spec = {**json.loads(env[SPEC_VARIABLE]), "recover": [sys.executable, "-c", ""]}
        execute(path, argv, {**env, SPEC_VARIABLE: json.dumps(spec)})

    _patch(os, "execve", without_helper)


def _nothing() -> None:
    """Leave the engine as it is: it is the evidence that will be changed."""


def _patch(owner: object, name: str, value: object) -> None:
    """Replace something that must be there: a sabotage that breaks nothing would prove nothing.

    Raises:
        AttributeError: there is no such thing any more.
    """
    getattr(owner, name)
    setattr(owner, name, value)


_BREAK: Final[dict[Part, Callable[[], None]]] = {
    Part.LOCK: _no_locks,
    Part.FETCH: _no_working_hash,
    Part.EPOCH: _no_assertion,
    Part.GUARD: _no_guard,
    Part.RECOVERY: _no_recovery,
    Part.VERDICT: _nothing,
}


def tamper(folder: Path, dice: random.Random) -> str:
    """Change the evidence of a demo and seal it again; return what was changed."""
    found = evidence.read(folder)
    how = dice.choice(TAMPERINGS)
    evidence.write(folder, how(found, dice))
    return (how.__doc__ or "").strip()


def _other_hash(found: Evidence, dice: random.Random) -> Evidence:
    """One row's hash is another's."""
    one, other = dice.sample([row for row in found.rows if row.sha256], 2)
    rows = [replace(row, sha256=_turned(other.sha256)) if row == one else row for row in found.rows]
    return replace(found, rows=rows)


def _turned(digest: str | None) -> str:
    return (digest or "0")[::-1]


def _one_effect_more(found: Evidence, dice: random.Random) -> Evidence:
    """One run is listed a second time, under another id."""
    run = dice.choice([run for run in found.runs if run.applied])
    return replace(found, runs=[*found.runs, replace(run, run=run.run[::-1])])


def _one_effect_less(found: Evidence, dice: random.Random) -> Evidence:
    """The run that made a row done is missing."""
    gone = dice.choice([run for run in found.runs if run.applied])
    return replace(found, runs=[run for run in found.runs if run != gone])


def _one_row_less(found: Evidence, dice: random.Random) -> Evidence:
    """One row is missing."""
    gone = dice.choice(found.rows)
    return replace(found, rows=[row for row in found.rows if row != gone])


def _one_fault_less(found: Evidence, dice: random.Random) -> Evidence:
    """One fault is missing, as if it had not been dared."""
    gone = dice.choice(found.faults)
    return replace(found, faults=[fault for fault in found.faults if fault != gone])


TAMPERINGS: Final = (
    _other_hash,
    _one_effect_more,
    _one_effect_less,
    _one_row_less,
    _one_fault_less,
)


def main() -> None:
    """Run the module named first on the command line with one part broken."""
    apply(os.environ["INDEXER_SABOTAGE"])
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
