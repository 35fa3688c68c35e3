"""What is remembered of a row whose job did not end well, and what follows from it. Pure: no SQL, no clock.

a job ends badly   → `after`: counted; the row waits, twice as long each time, or is quarantined
a pass meets a row → `judge`: held, or free again: its time has come, it has changed, a new release runs
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final

from qik_core.passes import ANY_VERSION, Ended, EndedKind
from reconciler.options import Quarantine
from reconciler.words import said

UNSEEN: Final = "?"
"""Ends a stored version that comes from a lock: no pass has looked at the row since its job ended."""
CHANGED: Final = "#version"
"""Among the chances: the row differed when a pass first looked. It may have been its own job that wrote to it."""
_CHANCES: Final = 10
_DOUBLINGS: Final = 40
_SPREAD: Final = 0.2
_PROBES: Final = 10.0
"""Rows a second that a new release frees; the first so many at once."""
_LONGEST: Final = 3_600.0
_SPAN: Final = float(1 << 64)


class Hold(StrEnum):
    """Why a pass leaves a row out."""

    WAITING = "waiting"  # its job ended badly not long ago
    QUARANTINED = "quarantined"  # too often


class Reason(StrEnum):
    """What put a row into its state: the last bad end of its job, or a person."""

    DIED = "died"
    CRASHED = "crashed"
    NO_PROGRESS = "no_progress"
    TERMINAL = "terminal"
    OPERATOR = "operator"


_WITHOUT_ERROR: Final = {
    Reason.NO_PROGRESS: "it ended well, and the row was pending still",
    Reason.CRASHED: "it ended its process",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is remembered of one row. Moments are epoch seconds by the database's clock."""

    job: str
    digest: str
    shard: str = ""
    key: str = ""
    """To be read by people."""
    args: str = ""
    """The arguments of its job as JSON; empty when they were too long to be kept."""
    failures: int = 0
    crashes: int = 0
    no_progress: int = 0
    hold: Hold = Hold.WAITING
    reason: Reason = Reason.DIED
    error: str = ""
    """How its job failed, or what the operator said."""
    version: str = ""
    """The tag of the row as a pass saw it; with UNSEEN at its end, as its lock had it."""
    jid: str = ""
    chances: tuple[str, ...] = ()
    """The releases that have tried it, and CHANGED."""
    next_at: float = 0.0
    first_at: float = 0.0
    last_at: float = 0.0

    @property
    def ends(self) -> int:
        """How often its job has ended badly."""
        return self.failures + self.crashes + self.no_progress


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a state: `state` is None when it is forgotten, `delay` in seconds is None when its time stays."""

    state: State | None
    delay: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a pass does with a row that has a state: `hold` is None for one that may be told."""

    hold: Hold | None
    change: Change | None = None


# --- a job has ended ------------------------------------------------------------------------------


def after(
    before: State | None, record: Ended, policy: Quarantine, *, key: str, args: str, release: str
) -> Change:
    """Return what follows from the end of a job."""
    if record.kind is EndedKind.RETRIED:
        return Change(None)
    state = before or State(job=record.name, digest=record.digest)
    kind = Reason(record.kind.value)
    counted = replace(
        state,
        failures=state.failures + (kind in (Reason.DIED, Reason.TERMINAL)),
        crashes=state.crashes + (kind is Reason.CRASHED),
        no_progress=state.no_progress + (kind is Reason.NO_PROGRESS),
        key=key,
        args=args,
        version=_of_lock(record.version),
        jid=record.jid,
        chances=_with(state.chances, release),
    )
    if state.hold is Hold.QUARANTINED and state.reason is Reason.OPERATOR:
        return Change(counted, 0.0)
    judged = replace(counted, reason=kind, error=record.error)
    too_often = {
        Reason.DIED: counted.failures >= policy.after,
        Reason.CRASHED: counted.crashes >= policy.crashes,
        Reason.NO_PROGRESS: counted.no_progress >= policy.no_progress,
        Reason.TERMINAL: True,
    }[kind]
    if too_often or state.hold is Hold.QUARANTINED:
        return Change(replace(judged, hold=Hold.QUARANTINED), 0.0)
    return Change(replace(judged, hold=Hold.WAITING), backoff(policy, counted.ends, record.digest))


def backoff(policy: Quarantine, ends: int, digest: str) -> float:
    """Return for how many seconds a row waits after so many bad ends; rows that fell together do not rise together."""
    doubled = policy.shortest * 2.0 ** min(max(0, ends - 1), _DOUBLINGS)
    share = fraction(digest, f"{ends}")
    return min(policy.longest, doubled) * (1 - _SPREAD + 2 * _SPREAD * share)


def fraction(digest: str, salt: str) -> float:
    """Return a number in [0, 1) that follows from a key and a salt."""
    said = blake2b(digest.encode(), digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(said) / _SPAN


def _of_lock(tag: str) -> str:
    return UNSEEN if tag == ANY_VERSION else f"{tag}{UNSEEN}"


def _with(chances: Sequence[str], chance: str) -> tuple[str, ...]:
    if not chance or chance in chances:
        return tuple(chances)
    kept = (*chances, chance)
    return tuple(
        each for at, each in enumerate(kept) if each == CHANGED or at >= len(kept) - _CHANCES
    )


# --- a pass meets the row -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What a pass knows when it meets a row."""

    tag: str | None
    """The row's version; None for a reconciler without."""
    release: str
    due: bool
    """The state's time has come."""
    quarantined: int
    """Rows of the class that are."""


def judge(state: State, seen: Seen, policy: Quarantine) -> Verdict:
    """Say whether a row may be told, and what is to be written of that."""
    if state.hold is Hold.QUARANTINED and state.reason is Reason.OPERATOR:
        return Verdict(Hold.QUARANTINED)
    change = None
    if seen.tag is not None and "version" in policy.reset_on:
        freed, change = _by_version(state, seen.tag)
        if freed:
            return Verdict(None, change)
        state = state if change is None or change.state is None else change.state
    if _is_new(seen.release, state, policy):
        window = min(_LONGEST, max(0.0, seen.quarantined - _PROBES) / _PROBES)
        delay = window * fraction(state.digest, seen.release)
        tried = replace(state, hold=Hold.WAITING, chances=_with(state.chances, seen.release))
        return Verdict(Hold.WAITING if delay else None, Change(tried, delay))
    if state.hold is Hold.QUARANTINED:
        return Verdict(Hold.QUARANTINED, change)
    return Verdict(None if seen.due else Hold.WAITING, change)


def _is_new(release: str, state: State, policy: Quarantine) -> bool:
    quarantined = state.hold is Hold.QUARANTINED
    return (
        quarantined
        and bool(release)
        and "release" in policy.reset_on
        and release not in state.chances
    )


def _by_version(state: State, tag: str) -> tuple[bool, Change | None]:
    """Say whether a change of the row frees it.

    The tag in a lock is that of the row when it was told. A job that notes its failure on the row makes a new one, so the
    first difference after an end is worth one run only; whatever differs from what a pass has seen is news.
    """
    known, unseen = state.version.removesuffix(UNSEEN), state.version.endswith(UNSEEN)
    if known and known != tag:
        if not unseen:
            return True, Change(None)
        if CHANGED not in state.chances:
            freed = replace(
                state, hold=Hold.WAITING, version=tag, chances=_with(state.chances, CHANGED)
            )
            return True, Change(freed, 0.0)
    return False, Change(replace(state, version=tag)) if state.version != tag else None


def how(state: State) -> str:
    """Return for people how its last job ended; empty where nobody has said."""
    return said(state.error) or _WITHOUT_ERROR.get(state.reason, "")


def shown(args: Sequence[Any], names: Sequence[str], unique: Sequence[str]) -> str:
    """Return the key of a job as people read it: its unique arguments, with their names if they are several."""
    pairs = list(zip(names, args, strict=False))
    kept = [(name, value) for name, value in pairs if name in unique] or pairs
    if len(kept) == 1:
        return str(kept[0][1])
    return " ".join(f"{name}={value}" for name, value in kept)
