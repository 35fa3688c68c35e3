"""The passes that would tell the row: do they run, do they wait, when does the next one come?"""

from __future__ import annotations

from datetime import UTC, datetime

from qik_core.passes import LockState
from reconciler.causes.found import Found, Reason
from reconciler.inquiry import Ended, Known
from reconciler.onerow import OfRow
from reconciler.report import Outcome
from reconciler.switches.stopping import OFF, why
from reconciler.words import span


def switched_off(known: Known) -> Found | None:
    """A kill switch keeps it back."""
    stop, trace = known.stop, known.trace
    if stop is None or (trace is not None and trace.state is LockState.RUNNING):
        return None
    drops = f"; a process that fetches its job {trace.jid} drops it" if known.told and trace else ""
    text = f"{why(stop)}{drops}. Let it run: reconciler enable {stop.flag} --reason …"
    details = {"switch": stop.flag, "source": stop.source, "why": stop.reason}
    return Found(Reason.SWITCHED_OFF, text, details=details)


def gated(known: Known) -> Found | None:
    """Passes wait: by the marks now, or the last one ended so."""
    if known.told:
        return None
    last, now = known.last, known.gate
    if last is not None and last.outcome == Outcome.GATED and not last.reason.startswith(OFF):
        before = f"the last pass ended so {span(_since(known, last))} ago: {last.reason}"
        now = f"{now}; {before}" if now else before
    return Found(Reason.GATED, f"back-pressure: {now}", next_pass(known)) if now else None


def shadow(known: Known) -> Found | None:
    """Passes tell nothing."""
    if not known.definition.shadow or known.told:
        return None
    text = f"{known.definition.name} is in shadow: its passes count what they would tell, and tell nothing"
    return Found(Reason.SHADOW, text)


def no_process(known: Known) -> Found | None:
    """Nobody makes passes."""
    if known.home is None or known.home.holder is not None or known.told:
        return None
    last = known.last
    text = f"no process runs {known.definition.unit}: nobody holds its lease"
    if last is not None:
        text += f" (its last pass ended {span(_since(known, last))} ago: {_with(last.outcome, last.reason)})"
    return Found(Reason.NO_PROCESS, f"{text}. Start one: reconciler run")


def pass_failed(known: Known) -> Found | None:
    """The last pass ended in an error."""
    last = known.last
    if last is None or last.outcome != Outcome.FAILED or known.told:
        return None
    text = f"the last pass of {known.definition.unit} failed {span(_since(known, last))} ago: {last.reason}"
    return Found(Reason.PASS_FAILED, text, next_pass(known))


def over_share(known: Known) -> Found | None:
    """Others of its tenant come before it, as many as a pass tells of one."""
    fair, rank = known.definition.fair, known.row.rank if known.row is not None else None
    if fair is None or rank is None or known.told or rank <= fair.per_tenant:
        return None
    text = f"it is number {rank:,} among the pending rows of its tenant, and a pass tells {fair.per_tenant:,} of one"
    return Found(Reason.OVER_SHARE, text, details={"rank": rank})


def unknown(known: Known) -> Found | None:
    """Redis does not say whether it is told."""
    if known.trace is not None or (known.row is not None and not known.row.matches):
        return None
    matches = (
        "it is pending" if known.row is not None and known.row.matches else "it may be pending"
    )
    return Found(Reason.UNKNOWN, f"{matches}, and Redis does not say whether a job of it exists")


def lost(known: Known) -> Found | None:
    """It is pending, nothing is in its way, and nobody has told it."""
    row = known.row
    if row is None or not row.matches or row.invalid or known.trace is None or known.told:
        return None
    at = next_pass(known)
    when = _when(known, at)
    return Found(
        Reason.LOST, f"it is pending and nobody has told it: {_history(known, row)}{when}", at
    )


def _history(known: Known, row: OfRow) -> str:
    last = known.last
    if last is None:
        return "no pass has ended yet. "
    if row.age is not None and row.age > last.started_at:
        return f"it is newer than the last pass, {span(_since(known, last))} ago. "
    return f"its job was lost since the last pass ({last.outcome} {span(_since(known, last))} ago), or was never pushed. "


def _when(known: Known, at: float | None) -> str:
    if known.home is not None and known.home.running_since is not None:
        return "A pass is under way and may tell it"
    if at is None or known.home is None:
        return "When the next pass comes is not known"
    left = at - known.home.now
    return (
        f"The next pass tells it in about {span(left)}" if left > 0 else "The next pass is due now"
    )


def next_pass(known: Known) -> float | None:
    """Return when the next pass begins, in epoch seconds; None where nobody would begin it."""
    home, definition = known.home, known.definition
    if home is None or home.holder is None or not home.passes:
        return None
    last = home.passes[0]
    if definition.cron is None:
        return max(home.now, last.started_at + definition.every)
    since = datetime.fromtimestamp(max(home.now, last.started_at), UTC)
    return definition.cron.after(since).timestamp()


def pass_after(known: Known, least: float) -> float:
    """Return when the first pass begins at which the row is free; that moment itself where passes are not known."""
    at = next_pass(known)
    if at is None or known.definition.cron is not None:
        return least
    while at < least:
        at += known.definition.every
    return at


def _since(known: Known, last: Ended) -> float:
    return max(0.0, (known.home.now if known.home else last.ended_at) - last.ended_at)


def _with(outcome: str, reason: str) -> str:
    return f"{outcome}, {reason}" if reason else outcome
