"""What the kill switches mean for one job: it runs, it is dropped because its row is told again, or it is held.

Asked at a push, when a job was fetched, again just before it starts, and before a held job is released. Nearly always no
rule concerns its class, which costs two look-ups. Never raises for what a payload says: that is for the run to tell.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from qik_core import hooks, rows
from qik_core.board import Board
from qik_core.definition import Definition
from qik_core.errors import ArgumentError, MalformedPayload
from qik_core.options import is_job_name
from qik_core.payload import Payload
from qik_core.rows import Rows
from qik_core.store.exchange import Fetched, Kind, Other
from qik_core.switches import NO_CONTEXT, Context, Field, OnUnknown, Stop, flag_of_class, key_text

log: Final = logging.getLogger("qik_core.switches")
_IN_ARGUMENTS: Final = {Field.KEY, Field.TENANT}
# How our own payloads begin, so that nearly all need no decoding.
_CLASS: Final = re.compile(
    rb'\{"qik":"[\w-]+","jid":"[\w-]+","queue":"[\w.:-]+","class":"([\w.:]+)",', re.ASCII
)


@dataclass(frozen=True, slots=True)
class Gate:
    """The switches of one process, and what it knows of job classes. Safe to use from many threads.

    `find` returns the definition of a class, `seam` what knows the rows, `now` gives epoch seconds.
    """

    board: Board
    find: Callable[[str], Definition | None]
    now: Callable[[], float]
    seam: Callable[[], Rows | None] = rows.known

    @property
    def shut(self) -> bool:
        """Whether any job might be stopped."""
        snapshot = self.board.snapshot
        return bool(snapshot.rules) or not snapshot.known

    def stop(self, payload: Payload, queue: str) -> Stop | None:
        """Say whether, and why, this job must not run now."""
        snapshot = self.board.snapshot
        definition = self.find(payload.class_name)
        name = definition.name if definition else payload.class_name
        doubt = None
        if not snapshot.known and definition is not None:
            doubt = snapshot.doubt(flag_of_class(name), definition.on_unknown)
        rules = snapshot.about(name, queue)
        if doubt is not None or not rules:
            return doubt
        asked = {each.field for _, rule in rules for each in rule.where}
        context = _context(definition, payload) if asked & _IN_ARGUMENTS else NO_CONTEXT
        unique = payload.unique
        ident = unique.digest if unique else payload.jid
        return snapshot.stop(name, queue, ident, context, now=self.now())

    def concerns(self, name: str, queue: str, on_unknown: OnUnknown = OnUnknown.RUN) -> bool:
        """Whether any job of this class on this queue might be stopped."""
        snapshot = self.board.snapshot
        unknown = not snapshot.known and on_unknown is OnUnknown.STOP
        return unknown or bool(snapshot.about(name, queue))

    def is_reconciled(self, name: str) -> bool:
        """Whether a reconciler tells the rows of this class, here or elsewhere; not, where that cannot be said."""
        seam = self.seam()
        try:
            here = seam is not None and seam.reconciled(name)
        except Exception as error:  # noqa: BLE001 - told; what is held is not lost
            hooks.defect("kill switches", error)
            here = False
        return here or name in self.board.snapshot.reconciled

    def over(self, job: Fetched, payload: Payload | None = None) -> Other | None:
        """Return what becomes of a fetched job that must not run now; None for one that may."""
        if not self.shut or not self._may_concern(job):
            return None
        try:
            payload = payload or Payload.decode(job.raw)
            stop = self.stop(payload, job.queue)
        except MalformedPayload:
            return None
        if stop is None:
            return None
        definition = self.find(payload.class_name)
        name = definition.name if definition else payload.class_name
        if self.is_reconciled(name):
            return _settled(job, payload, Kind.OFF, stop)
        return _settled(job, payload, Kind.HELD, stop, name) if is_job_name(name) else None

    def cancelled(self, running: Sequence[Fetched]) -> list[bytes]:
        """Return the fields of those among the running jobs that are asked to stop, too."""
        if not self.board.snapshot.cancels:
            return []
        return [job.field for job in running if self._cancels(job)]

    def _cancels(self, job: Fetched) -> bool:
        try:
            stop = self.stop(Payload.decode(job.raw), job.queue)
        except MalformedPayload:
            return False
        except Exception as error:  # noqa: BLE001 - told; the other runs must hear of it all the same
            hooks.defect("kill switches", error)
            return False
        return stop is not None and stop.cancel

    def _may_concern(self, job: Fetched) -> bool:
        found = _CLASS.match(job.raw)
        if found is None:
            return True
        definition = self.find(name := found[1].decode())
        if definition is None:
            return self.concerns(name, job.queue)
        return self.concerns(definition.name, job.queue, definition.on_unknown)


def _settled(job: Fetched, payload: Payload, kind: Kind, stop: Stop, name: str = "") -> Other:
    held = kind is Kind.HELD
    fields = {"jid": payload.jid, "job": payload.class_name, "queue": job.queue, "flag": stop.flag}
    log.info(
        "job held: its class is switched off" if held else "job dropped by a switch", extra=fields
    )
    return Other(
        job,
        kind,
        payload.unique,
        payload.jid,
        name if held else job.queue,
        failed=False,
        counter="" if held else "switched_off",
        note=b"" if held else stop.flag.encode(),
    )


def _context(definition: Definition | None, payload: Payload) -> Context:
    """Return what the arguments of a job say of it; nothing where they do not fit."""
    if definition is None:
        return Context(key=key_text(payload.args))
    try:
        (written,) = definition.arguments.dump_rows([definition.arguments.load(payload.args)])
        (key,) = definition.arguments.keys([written])
    except (ArgumentError, ValueError):
        return NO_CONTEXT
    tenant = None if definition.tenant is None else key_text([written[definition.tenant]])
    return Context(tenant, key_text(msgspec.json.decode(key)))
