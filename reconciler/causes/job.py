"""The row's job: does it run, wait, or lie dead, and what is on its way?"""

from __future__ import annotations

from typing import Any

from qik_core.passes import LockState, Spot, Trace
from reconciler.causes.found import Found, Reason
from reconciler.inquiry import Known
from reconciler.words import joined, moment, span, times


def running(known: Known) -> Found | None:
    """A process has it."""
    seen = _in_state(known, LockState.RUNNING)
    if seen is None or seen.holder is None:
        return None
    holder, more = seen.holder, "; it runs once more after that" if seen.dirty else ""
    about = {"jid": seen.jid, "process": holder.identity, "since": holder.since}
    if not holder.identity:
        text = f"its job {seen.jid} runs on a process that has not been heard of: others take it back within a lease"
    elif holder.since is None:
        text = f"its job {seen.jid} was fetched by {holder.identity}, and starts there"
    else:
        ago = span(max(0.0, seen.now - holder.since))
        text = f"its job {seen.jid} runs on {holder.identity}, for {ago}"
    return Found(Reason.RUNNING, text + more, details=about)


def retrying(known: Known) -> Found | None:
    """It failed, and waits for its next try."""
    seen = _in_state(known, LockState.RETRYING)
    if seen is None or seen.spot is None or seen.spot.due is None:
        return None
    spot = seen.spot
    text = f"its job {seen.jid} failed {times(spot.failures)} and is tried again {_in(seen, spot)}"
    return Found(Reason.RETRYING, joined(text, spot.error), spot.due, _about(spot))


def scheduled(known: Known) -> Found | None:
    """It waits for its time."""
    seen = _in_state(known, LockState.SCHEDULED)
    if seen is None or seen.spot is None or seen.spot.due is None:
        return None
    when = f"{moment(seen.spot.due)}: {_in(seen, seen.spot)}"
    text = f"its job {seen.jid} is scheduled for {when}{_unserved(seen)}"
    return Found(Reason.SCHEDULED, text, seen.spot.due, _about(seen.spot))


def paused(known: Known) -> Found | None:
    """Its queue is paused."""
    seen = known.trace
    if seen is None or seen.orphan or seen.line is None or not seen.line.paused:
        return None
    name = seen.line.queue
    text = f"its job {seen.jid} waits on {name}, which is paused. Serve it again: qik resume {name}"
    return Found(Reason.PAUSED, text, details={"queue": name})


def unserved(known: Known) -> Found | None:
    """Nobody fetches from its queue."""
    seen = known.trace
    if seen is None or seen.orphan or seen.line is None or seen.line.processes:
        return None
    name = seen.line.queue
    waits = "waits on" if _due(seen) is None else "is to run on"
    text = f"its job {seen.jid} {waits} {name}, from which no process fetches. Start one: qik work --queue {name}"
    return Found(Reason.UNSERVED, text, details={"queue": name})


def queued(known: Known) -> Found | None:
    """Others come before it."""
    seen = known.trace
    if (
        seen is None
        or seen.state in (LockState.ABSENT, LockState.RUNNING)
        or _due(seen) is not None
    ):
        return None
    about: dict[str, Any] = {"jid": seen.jid}
    if seen.spot is not None and seen.spot.position is not None:
        spot = seen.spot
        text = f"its job {seen.jid} is number {spot.position:,} of {spot.length:,} on {spot.queue}"
        if spot.is_held:
            text = f"its job {seen.jid} is held: its class or its queue is switched off, and it comes back when it is not"
        if spot.is_aside:
            text = (
                f"its job {seen.jid} is aside: a flush is under way, or has died. If it has, type it again, "
                "or let its jobs go back: reconciler flush --put-back"
            )
        if spot.is_suspect:
            text += " among the suspects: two processes died while it ran, so it runs alone"
        return Found(Reason.QUEUED, text + _unserved(seen), details={**about, **_about(spot)})
    if not seen.cut:
        return None
    text = f"its job {seen.jid} is queued, with at least {seen.searched:,} others before it"
    return Found(Reason.QUEUED, text, details={**about, "at_least": seen.searched})


def orphan(known: Known) -> Found | None:
    """Its lock stands, and it is gone."""
    seen = known.trace
    if seen is None or not seen.orphan:
        return None
    text = (
        f"its lock says that job {seen.jid} is {seen.state}, and there is no such job: somebody deleted it by hand. "
        "The next pass that misses it in the counts, or the hourly roll, collects the lock; the pass after that tells the row"
    )
    return Found(Reason.ORPHAN, text, details={"jid": seen.jid})


def dead(known: Known) -> Found | None:
    """It died, and no pass has begun since."""
    return None if _passed_since(known) else _dead(known)


def dead_before(known: Known) -> Found | None:
    """It died, and passes that came after would have told its row again."""
    return _dead(known) if _passed_since(known) else None


def _dead(known: Known) -> Found | None:
    seen = known.trace
    if seen is None or seen.dead is None or seen.state is not LockState.ABSENT:
        return None
    spot = seen.dead
    when = "" if spot.due is None else f" {span(max(0.0, seen.now - spot.due))} ago"
    text = joined(f"its job {spot.jid} died{when}", spot.error)
    if known.row is None or known.row.matches:
        text += f'. Run it again: DeadSet().retry_all("jid:{spot.jid}") of qik_core.api'
    return Found(Reason.DEAD, text, None, _about(spot))


def _passed_since(known: Known) -> bool:
    """Say whether a pass has begun since it died; each moment is measured by its own clock, so ages are compared."""
    seen, last = known.trace, known.last
    if seen is None or seen.dead is None or seen.dead.due is None or last is None:
        return False
    return known.home is not None and known.home.now - last.started_at < seen.now - seen.dead.due


def _in_state(known: Known, state: LockState) -> Trace | None:
    return known.trace if known.trace is not None and known.trace.state is state else None


def _unserved(seen: Trace) -> str:
    line = seen.line
    return "" if line is None or line.processes else f"; no process fetches from {line.queue}"


def _due(seen: Trace) -> float | None:
    return None if seen.spot is None else seen.spot.due


def _in(seen: Trace, spot: Spot) -> str:
    left = (spot.due or 0.0) - seen.now
    return f"in {span(left)}" if left > 0 else f"now (it has been due for {span(-left)})"


def _about(spot: Spot) -> dict[str, Any]:
    return {
        "jid": spot.jid,
        "queue": spot.queue,
        "position": spot.position,
        "error": spot.error,
        "failures": spot.failures,
    }
