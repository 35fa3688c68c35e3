"""Losses of data in Redis: each is told once, by one process, with what nobody tells again; see `lost.py` for the kinds.

What waits in Redis is counted now and then and kept in SQL, since afterwards it is too late; so is what was known of Redis,
for processes that begin after a loss that nobody has seen.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from threading import Thread
from time import monotonic
from typing import Any, Final

from sqlalchemy import Connection, Engine

from qik_core.passes import Passes
from reconciler import audit, lost, registry
from reconciler.audit import Action
from reconciler.lost import LossKind, Noticed, RedisLoss, Seen, judge
from reconciler.notes import Kind, Note, Notes, Value, forget

log: Final = logging.getLogger("reconciler")

EVERY: Final = 30.0
"""Seconds between two counts of what waits, by all processes together."""
_SHARED: Final = "sql"
"""The name under which all processes leave a number, for those that begin after them."""
_COUNTED: Final = "counted"
_TOLD: Final = "told"
_SAME: Final = 30.0
"""Seconds within which processes notice one loss."""


class Losses:
    """What one process of reconcilers knows of losses. All methods raise StoreError, SqlUnavailable and NotMigrated."""

    def __init__(self, home: Engine, seam: Passes, holder: str) -> None:
        self._home = home
        self._notes = Notes(home)
        self._seam = seam
        self._holder = holder
        self._wait = float("-inf")

    def missed(self) -> Noticed | None:
        """Return the loss that came while no process of reconcilers ran."""
        note = self._notes.read(Kind.REDIS).get(_COUNTED)
        seen = None if note is None else Seen.kept(note.value.get("seen"))
        if seen is None:
            return None
        return judge(seen, self._seam.witness(_SHARED), self._seam.life())

    def count(self) -> bool:
        """Count what waits if nobody has done so for a while; not right after a loss, which is told with the count before."""
        if monotonic() < self._wait:
            return False
        note = self._notes.read(Kind.REDIS).get(_COUNTED)
        if note is not None and note.age < EVERY:
            return False
        noticed = self.missed()
        if noticed is not None and noticed.whole:
            self._wait = monotonic() + _SAME
            return False
        census = self._seam.census()
        jobs = {
            name: dict(where) for name, where in census.jobs.items() if not registry.telling(name)
        }
        seen = Seen.of(self._seam.witness(_SHARED), self._seam.life())
        self._notes.put(
            Kind.REDIS, {_COUNTED: {"jobs": jobs, "exact": census.exact, "seen": asdict(seen)}}
        )
        return True

    def announce(self, noticed: Noticed) -> RedisLoss | None:
        """Tell of a loss, in the log, the audit and to the application; None where another process does or has done so."""
        if noticed.on_purpose:
            log.info("the epoch is that of a flush", extra={"epoch": noticed.loss})
            self._notes.forget(Kind.REDIS, [_COUNTED])
            return None
        notes = self._notes.read(Kind.REDIS)
        if _TOLD in notes and _claimed(notes[_TOLD].value, noticed) is None:
            return None
        loss = self._loss(noticed, notes.get(_COUNTED) if noticed.whole else None)
        if not self._claim(noticed, loss):
            return None
        log.warning(
            "redis_loss: %s", sentence(loss), extra={"kind": str(loss.kind), "epoch": loss.loss}
        )
        Thread(target=lost.tell, args=(loss,), name="reconciler-loss", daemon=True).start()
        return loss

    def _claim(self, noticed: Noticed, loss: RedisLoss) -> bool:
        """Write it down, unless another process was first. Whoever fails has told nobody, and may try again."""
        what = {**loss.as_json(), "at": round(loss.at, 3)}

        def write(connection: Connection, _: Value) -> None:
            kind, who = str(loss.kind), self._holder
            audit.write_down(connection, Action.REDIS_LOST, kind, who, loss.text, what)
            if noticed.whole:
                forget(connection, Kind.REDIS, [_COUNTED])  # counted anew, and not lost twice

        new = self._notes.change(
            Kind.REDIS, _TOLD, lambda told, _: _claimed(told, noticed), also=write
        )
        return new is not None

    def _loss(self, noticed: Noticed, note: Note | None) -> RedisLoss:
        jobs: Mapping[str, Mapping[str, int]] = {} if note is None else note.value.get("jobs", {})
        if noticed.kind is LossKind.LOCKS:
            jobs = {}
        return RedisLoss(
            kind=noticed.kind,
            text=noticed.text,
            at=noticed.at,
            loss=noticed.loss,
            back=noticed.back,
            jobs=noticed.jobs,
            unreconciled=self._missing(jobs),
            counted_ago=None if note is None else round(note.age, 1),
            exact=note is None or bool(note.value.get("exact", True)),
        )

    def _missing(self, before: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
        """Return what of these jobs is not there now."""
        if not before:
            return {}
        there = self._seam.census().jobs
        gone = {
            name: {at: n - there.get(name, {}).get(at, 0) for at, n in where.items()}  # type: ignore[call-overload]
            for name, where in before.items()
        }
        kept = {name: {at: n for at, n in where.items() if n > 0} for name, where in gone.items()}
        return {name: where for name, where in kept.items() if where}


def _claimed(told: Value, noticed: Noticed) -> dict[str, Any] | None:
    """Return what is told from now on; None where this loss is told already."""
    kind = str(noticed.kind)
    if noticed.kind is LossKind.WENT_BACK or not noticed.whole:
        known = abs(noticed.at - told.get(kind, float("-inf"))) < _SAME
    else:
        known = told.get("loss") == noticed.loss
    return None if known else {**told, kind: noticed.at, "loss": noticed.loss}


def sentence(loss: RedisLoss) -> str:
    """Return what happened and what is gone, for people."""
    if not loss.unreconciled:
        if loss.counted_ago is None or loss.kind is LossKind.LOCKS:
            return loss.text
        ago = f"when they were counted, {loss.counted_ago:g} s before"
        return f"{loss.text}; no job of a class without reconciler waited there {ago}"
    named = ", ".join(
        f"{name or 'jobs that are not ours'} {sum(where.values()):,} ({places(where)})"
        for name, where in sorted(loss.unreconciled.items())
    )
    about = "" if loss.exact else "about "
    gone = f"{about}{loss.gone:,} jobs that no reconciler tells again"
    return f"{loss.text}; {gone}, counted {loss.counted_ago:g} s before: {named}"


def places(where: Mapping[str, int]) -> str:
    """Return where jobs were and how many, for people."""
    return ", ".join(f"{at} {count:,}" for at, count in sorted(where.items()))
