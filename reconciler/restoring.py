"""Export and import: jobs into a file that stay in Redis, and jobs of a file back into Redis, each once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from qik_core.flushing import Flushing, Home
from reconciler.audit import Action, record
from reconciler.engines import Engines
from reconciler.errors import ReconcilerError
from reconciler.export import Header, Journal, Line, read, read_header
from reconciler.survey import Means, Say, Selection, judge_of

_CHUNK: Final = 250
_FULL: Final = 0.95
"""Of the memory that Redis may use: beyond it nothing is put back, since pushes need the rest."""


class NearlyFull(ReconcilerError):
    """Redis has no room for what would be put back."""


@dataclass(slots=True)
class Restored:
    """What an import has done."""

    header: Header
    back: Counter[str] = field(default_factory=Counter)
    """Job class → jobs that are back."""
    there: int = 0
    """Jobs that were put back before, or are there."""
    blocked: dict[str, str] = field(default_factory=dict)
    """jid → the jid of the job that holds its key by now: it does the work."""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "jobs": self.header.jobs,
            "put_back": self.back.total(),
            "there": self.there,
            "blocked": self.blocked,
            "classes": dict(sorted(self.back.items())),
        }


def export(
    means: Means,
    selection: Selection,
    path: Path,
    who: str,
    reason: str,
    say: Say = lambda *_: None,
) -> Header:
    """Write the jobs that are meant into a file, and leave them where they are.

    Raises:
        FileInTheWay, OSError: the file cannot be written.
        StoreError: Redis does not answer. No file is left.
    """
    journal = Journal(path, who=who, reason=reason, at=time.time(), fresh=True)
    judge = judge_of(means, selection)
    with journal.or_nothing():
        seen = 0
        for some in means.redis.look():
            jobs = [job for job in some.jobs if selection.covers(job)]
            if selection.tenant is not None:
                fates = judge.fates(jobs)
                jobs = [job for job, fate in zip(jobs, fates, strict=True) if fate is not None]
            if jobs:
                journal.write(jobs)
            seen += len(some.jobs)
            say("jobs looked at", seen)
        return journal.finish()


def audit_export(engines: Engines, selection: Selection, header: Header, path: Path) -> None:
    """Write an export into the audit. Raises SqlUnavailable, NotMigrated."""
    about = {"jobs": header.jobs, "classes": dict(header.classes), "file": str(path)}
    record(engines.home(), Action.EXPORTED, str(selection), header.who, header.reason, about)


def restore(
    engines: Engines,
    redis: Flushing,
    path: Path,
    *,
    who: str,
    reason: str,
    say: Say = lambda *_: None,
) -> Restored:
    """Put the jobs of a file back where they were. Repeatable: what was put back, or is there, is left alone.

    Raises:
        BadExport: the file is damaged, or none of ours; the message names the line. Nothing was put back.
        NearlyFull: Redis has no room for more; what is back is back, and the same call goes on.
        SqlUnavailable, NotMigrated: the audit cannot be written; nothing was put back.
        StoreError: Redis does not answer; the same call goes on.
    """
    header = read_header(path)
    jids = {line.jid for line in read(path, header)}
    done = Restored(header)
    about = {"state": "begun", "file": str(path), "export": header.id, "jobs": header.jobs}
    record(engines.home(), Action.IMPORTED, header.id, who, reason, about)
    present = redis.present(jids)
    for home, lines in _chunks(read(path, header)):
        _check_room(redis, done)
        _put_back(redis, header.id, home, [each for each in lines if each.jid not in present], done)
        done.there += sum(each.jid in present for each in lines)
        say("jobs put back", done.back.total())
    about = {"state": "ended", "file": str(path), "export": header.id, **done.as_json()}
    about["blocked"] = len(done.blocked)
    record(engines.home(), Action.IMPORTED, header.id, who, reason, about)
    return done


def _chunks(lines: Iterator[Line]) -> Iterator[tuple[Home, Sequence[Line]]]:
    for home, some in groupby(lines, key=lambda line: line.home):
        chunk: list[Line] = []
        for line in some:
            chunk.append(line)
            if len(chunk) == _CHUNK:
                yield home, chunk
                chunk = []
        if chunk:
            yield home, chunk


def _put_back(
    redis: Flushing, export_id: str, home: Home, lines: Sequence[Line], done: Restored
) -> None:
    if not lines:
        return
    rows = [(line.jid, line.score, line.raw) for line in lines]
    for line, answer in zip(lines, redis.restore(export_id, home, rows), strict=True):
        if answer == "1":
            done.back[line.name] += 1
        elif answer == "0":
            done.there += 1
        else:
            done.blocked[line.jid] = answer[1:]


def _check_room(redis: Flushing, done: Restored) -> None:
    used, limit = redis.memory()
    if limit and used > limit * _FULL:
        raise NearlyFull(
            f"Redis is {used / limit:.0%} full: {done.back.total():,} of {done.header.jobs:,} jobs are back. "
            "Let workers drain it, or raise maxmemory, and import the file again: it goes on"
        )
