r"""Jobs in a file: JSON lines, a header first, each line with a sum of its own, the header with one of all.

    {"qik_export":1,"id":"3f…","complete":true,"jobs":2,"classes":{"Mail":2},"digest":"9c…",…}
    {"n":1,"at":"queue:default","class":"Mail","jid":"b4…","score":null,"raw":"{\"qik\":…}","sum":"1f00ab37"}

While jobs are taken out of Redis they are written to `FILE.part`, on disk before they leave; `FILE` appears whole, at the end.
A flush that dies leaves `FILE.part`, and the next one with the same `--export` goes on with it: nothing is in neither place.
Behind the jobs `FILE.part` says what became of them, as `{"gone":[1],"not":[2]}`: the first has left Redis, or may have and
nobody can know any more; the second has stayed and is no part of the file. Of a job of which neither is said, whoever goes on
must find out.
"""

from __future__ import annotations

import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Self

from qik_core.flushing import Found, Home, home_of
from reconciler.errors import ReconcilerError
from reconciler.parts import MODE, appear, is_at, locked, part_of, sync_folder

VERSION: Final = 1
_IDS: Final = re.compile("[0-9a-f]{12}")


class BadExport(ReconcilerError):
    """A file that is no export, or not as it was written. The message names the line."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    id: str
    """Of the flush or export; the marks of what was put back go by it."""
    complete: bool
    """False: whoever wrote it has died, or goes on still."""
    jobs: int
    classes: Mapping[str, int]
    digest: str
    who: str
    reason: str
    at: float
    """Epoch seconds by the clock of who wrote it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One job in a file."""

    number: int
    """The line, from 2."""
    home: Home
    name: str
    jid: str
    score: float | None
    raw: bytes


# --- write ---------------------------------------------------------------------------------------


class Journal:
    """Writes one file. Not for two threads at once; to be closed, or finished. `fresh`: go on with nothing.

    Raises:
        FileInTheWay: the file is there, or another process writes it.
        BadExport: what is there of an earlier try is damaged.
        OSError: the folder cannot be written.
    """

    def __init__(
        self, path: Path, *, who: str, reason: str, at: float, fresh: bool = False
    ) -> None:
        self.path: Final = path
        self._part: Final = part_of(path)
        self._file = locked(path, fresh=fresh)
        self._count = 0
        self.id = os.urandom(6).hex()
        self.resumed = 0
        """Jobs that an earlier try has written."""
        self.unsure: dict[str, int] = {}
        """jid → number of those of which it is not written down whether they have left Redis."""
        self._about = {"who": who, "reason": reason, "at": at}
        try:
            self._take_up()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave what is written for the next try; no file if that is nothing."""
        if self._file.closed:
            return
        if not self._count and is_at(self._file, self._part):
            self._part.unlink()
        self._file.close()

    @contextmanager
    def or_nothing(self) -> Iterator[None]:
        """Leave no file if the block raises."""
        try:
            yield
        except BaseException:
            self._count = 0
            raise
        finally:
            self.close()

    def write(self, jobs: Sequence[Found]) -> list[int]:
        """Write jobs down, on disk when this returns; returns their numbers."""
        numbers = list(range(self._count + 1, self._count + len(jobs) + 1))
        for number, job in zip(numbers, jobs, strict=True):
            self._put(_line_of(number, job))
        self._count += len(jobs)
        self._sync()
        return numbers

    def settle(self, left: Sequence[int], stayed: Sequence[int] = ()) -> None:
        """Take note of what became of jobs, on disk when this returns.

        Those that have left Redis, or may have, are part of the file from now on, whoever goes on; those that stayed are not.
        """
        line = {"gone": list(left), "not": list(stayed)}
        if said := {name: numbers for name, numbers in line.items() if numbers}:
            self._put(said)
            self._sync()

    def finish(self) -> Header:
        """Let the file appear under its name, whole; returns its header. Raises FileInTheWay as when it was opened."""
        numbers = _kept(self._lines())
        whole, classes = blake2b(digest_size=16), Counter[str]()
        for line in self._jobs(numbers):
            whole.update(_encode(line))
            classes[str(line["class"])] += 1
        head = self._head(complete=True)
        head |= {"jobs": classes.total(), "classes": dict(sorted(classes.items()))}
        head["digest"] = whole.hexdigest()
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "wb") as file:
            file.write(_encode(head))
            file.writelines(map(_encode, self._jobs(numbers)))
            file.flush()
            os.fsync(file.fileno())
        appear(fresh, self.path)
        self._part.unlink()
        sync_folder(self.path)
        self.close()
        return _header(head, 1)

    def _take_up(self) -> None:
        """Go on with what an earlier try has written, but for a last line that was cut."""
        if os.fstat(self._file.fileno()).st_size == 0:
            self._put(self._head(complete=False))
            self._sync()
            sync_folder(self.path)
            return
        first = next(self._lines(cut=True), None)
        if first is None:
            self._put(self._head(complete=False))
            return
        self.id = _header(first, 1).id
        kept = _kept(self._lines(cut=True))
        gone = {number for line in self._lines() for number in line.get("gone", ())}
        self.unsure = {line["jid"]: line["n"] for line in self._jobs(kept - gone)}
        self.resumed = len(kept)
        self._count = max((line.get("n", 0) for line in self._lines()), default=0)

    def _jobs(self, numbers: AbstractSet[int]) -> Iterator[dict[str, Any]]:
        return (line for line in self._lines() if line.get("n") in numbers)

    def _lines(self, *, cut: bool = False) -> Iterator[dict[str, Any]]:
        """Yield every line of the part; `cut` takes a last one off that does not end."""
        self._file.seek(0)
        for number, raw in enumerate(self._file, 1):
            if not raw.endswith(b"\n") and cut:
                self._file.truncate(self._file.tell() - len(raw))
                break
            yield _decoded(raw, number)
        self._file.seek(0, os.SEEK_END)

    def _head(self, *, complete: bool) -> dict[str, Any]:
        return {"qik_export": VERSION, "id": self.id, "complete": complete, **self._about}

    def _put(self, line: Mapping[str, Any]) -> None:
        self._file.seek(0, os.SEEK_END)
        self._file.write(_encode(line))

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def _kept(lines: Iterable[Mapping[str, Any]]) -> set[int]:
    """Return the numbers of the jobs that were not taken out again; of each jid the last."""
    last: dict[str, int] = {}
    out: set[int] = set()
    for line in lines:
        out.update(line.get("not", ()))
        if "n" in line:
            last[line["jid"]] = line["n"]
    return set(last.values()) - out


def _line_of(number: int, job: Found) -> dict[str, Any]:
    line: dict[str, Any] = {
        "n": number,
        "at": job.home.key.decode(),
        "class": job.name,
        "jid": job.jid,
        "score": job.score,
        "raw": job.raw.decode("utf-8", "surrogateescape"),
    }
    return line | {"sum": _sum(line)}


def _sum(line: Mapping[str, Any]) -> str:
    fields = [line[name] for name in ("n", "at", "class", "jid", "score", "raw")]
    return f"{zlib.crc32(json.dumps(fields).encode()):08x}"


def _encode(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


# --- read ----------------------------------------------------------------------------------------


def read_header(path: Path) -> Header:
    """Return what a file says of itself.

    Raises:
        BadExport: it is no export, of a later release, or not complete.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        found = _header(_decoded(file.readline(), 1), 1)
    if not found.complete:
        raise BadExport(
            f"{path} is not complete: the flush that wrote it has not ended. "
            "Run that flush again with the same --export; it goes on and finishes the file"
        )
    return found


def read(path: Path, header: Header) -> Iterator[Line]:
    """Yield the jobs of a file, each checked; the whole is checked at the end.

    Raises:
        BadExport: a line, or the whole, is not as it was written.
    """
    whole, count = blake2b(digest_size=16), 0
    with path.open("rb") as file:
        file.readline()
        for number, raw in enumerate(file, 2):
            whole.update(raw)
            yield _job(_decoded(raw, number), number)
            count += 1
    if count != header.jobs:
        raise BadExport(f"the header of {path} says {header.jobs:,} jobs, and there are {count:,}")
    if whole.hexdigest() != header.digest:
        raise BadExport(f"the jobs of {path} are not those that were written: the digest differs")


def _decoded(raw: bytes, number: int) -> dict[str, Any]:
    try:
        line = json.loads(raw) if raw.endswith(b"\n") else None
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict):
        raise BadExport(f"line {number} is no JSON object, or was cut: {raw[:60]!r}")
    return line


def _header(line: Mapping[str, Any], number: int) -> Header:
    if "qik_export" not in line:
        raise BadExport(f"line {number} is no header: `reconciler export` did not write this file")
    if line["qik_export"] != VERSION:
        raise BadExport(f"line {number}: a later release wrote this file ({line['qik_export']!r})")
    try:
        return Header(
            id=_checked_id(line["id"]),
            complete=line["complete"] is True,
            jobs=int(line.get("jobs", 0)),
            classes=dict(line.get("classes", {})),
            digest=str(line.get("digest", "")),
            who=str(line["who"]),
            reason=str(line["reason"]),
            at=float(line["at"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadExport(f"line {number}: the header is damaged: {error!r}") from None


def _checked_id(text: str) -> str:
    """Return an id if it can be one: it becomes part of a key. Raises ValueError."""
    if _IDS.fullmatch(text) is None:
        raise ValueError(text)
    return text


def _job(line: Mapping[str, Any], number: int) -> Line:
    try:
        home = home_of(line["at"].encode()) if line["sum"] == _sum(line) else None
        found = home and Found.of(line["raw"].encode("utf-8", "surrogateescape"), home)
        score = None if line["score"] is None else float(line["score"])
    except (KeyError, TypeError, ValueError, AttributeError):
        home, found, score = None, None, None
    if home is None or not found or found.jid != line["jid"] or not _has_place(home, score):
        raise BadExport(f"line {number} is damaged, or no job of ours")
    return Line(number, home, str(line["class"]), found.jid, score, found.raw)


def _has_place(home: Home, score: float | None) -> bool:
    return score is None if home.is_list else score is not None and math.isfinite(score)
