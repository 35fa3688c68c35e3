"""The row itself: is it there, does it match, can it travel, is it time, is it held back?"""

from __future__ import annotations

from typing import Any, Final

from reconciler.causes.found import Found, Reason
from reconciler.causes.turn import pass_after
from reconciler.inquiry import Known, OfState
from reconciler.lookup import typed
from reconciler.words import joined, moment, said, span, times


def broken(known: Known) -> Found | None:
    """The select itself fails."""
    if not known.broken:
        return None
    return Found(Reason.BROKEN, f"the select of {known.definition.name} fails: {known.broken:.500}")


def no_row(known: Known) -> Found | None:
    """No row has the key."""
    lost = known.row.unmatched if known.row else None
    if lost is None or lost.exists is not False:
        return None
    return Found(Reason.NO_ROW, lost.note or f"there is no row with the key {known.name}")


def not_matching(known: Known) -> Found | None:
    """The row is there, and the select does not find it."""
    lost = known.row.unmatched if known.row else None
    if lost is None or lost.exists is False:
        return None
    if lost.note:
        return Found(Reason.NOT_MATCHING, lost.note)
    if lost.exists is None:
        return Found(
            Reason.NOT_MATCHING,
            f"the select does not find {known.name}; which condition fails cannot be asked",
        )
    has = ", ".join(f"{name} is {value!r:.80}" for name, value in lost.values.items())
    conditions = " and ".join(f"`{each}`" for each in lost.failing)
    text = f"the row does not match: {conditions} does not hold" if lost.failing else _ALTOGETHER
    text = f"{text} ({has})" if has else text
    found = {"conditions": " and ".join(lost.failing), **lost.values}
    return Found(Reason.NOT_MATCHING, text, details=found)


_ALTOGETHER: Final = (
    "the row does not match: each condition holds for some pair of rows, and no pair fulfils all"
)


def invalid(known: Known) -> Found | None:
    """Its arguments cannot travel."""
    if known.row is None or not known.row.invalid:
        return None
    return Found(
        Reason.INVALID, f"its arguments cannot travel, so no pass can tell it: {known.row.invalid}"
    )


# --- its time -------------------------------------------------------------------------------------


def late(known: Known) -> Found | None:
    """It was due too long ago."""
    row, run_at = known.row, known.definition.shape.run_at
    if row is None or row.run_at is None or run_at is None or run_at.grace is None or known.told:
        return None
    late = row.now - row.run_at
    if late <= run_at.grace:
        return None
    text = f"it was due {span(late)} ago, and what is later than {span(run_at.grace)} is left out: late='skip'"
    return Found(Reason.LATE, text, details={"run_at": row.run_at})


def not_due(known: Known) -> Found | None:
    """It is due too far ahead."""
    row, run_at = known.row, known.definition.shape.run_at
    if row is None or row.run_at is None or run_at is None or known.told:
        return None
    begins = row.run_at - run_at.horizon
    if begins <= row.now:
        return None
    text = f"it is due at {moment(row.run_at)}, and told {span(run_at.horizon)} before that: in {span(begins - row.now)}"
    return Found(Reason.NOT_DUE, text, begins, {"run_at": row.run_at})


def too_young(known: Known) -> Found | None:
    """Its own push may still be on its way."""
    row, least = known.row, known.definition.min_age
    if row is None or row.age is None or not least or known.told:
        return None
    if not row.now - least < row.age <= row.now:
        return None
    ends = row.age + least
    text = (
        f"it is {span(row.now - row.age)} old, and passes leave rows younger than {span(least)} to their own push: "
        f"{span(ends - row.now)} more"
    )
    return Found(Reason.TOO_YOUNG, text, pass_after(known, ends), {"age": row.now - row.age})


def quarantined(known: Known) -> Found | None:
    """Its job ended badly too often."""
    if known.state is None or known.state.state != "quarantined":
        return None
    release = _RELEASE.format(known.definition.name, typed(known.definition, known.key))
    text = f"it is quarantined: {_ends(known.state)}. {release}"
    return Found(Reason.QUARANTINED, text, details=_of(known.state))


_RELEASE: Final = (
    "A newer row version, a new release or `reconciler quarantine release {} {}` lets it go"
)


def waiting(known: Known) -> Found | None:
    """Its job ended badly not long ago."""
    state = known.state
    if state is None or state.state != "waiting" or known.home is None:
        return None
    left = state.next_at - known.home.now
    if left <= 0:
        return None
    text = f"it waits for {span(left)} more: {_ends(state)}"
    return Found(Reason.WAITING, text, pass_after(known, state.next_at), _of(state))


def _ends(state: OfState) -> str:
    terminal = state.reason == "terminal"
    counts = {
        "died": state.failures - terminal,
        "ended its process": state.crashes,
        "ended well and left the row pending": state.no_progress,
    }
    told = " and ".join(f"{what} {times(count)}" for what, count in counts.items() if count)
    if terminal:
        before = f" (before that it {told})" if told else ""
        return f"its job said {said(state.error) or 'Terminal'}{before}"
    return joined(f"its job {told}" if told else f"{state.reason}", state.error)


def _of(state: OfState) -> dict[str, Any]:
    return {
        "why": state.reason,
        "failures": state.failures,
        "crashes": state.crashes,
        "no_progress": state.no_progress,
        "next_at": state.next_at,
        "error": state.error,
        "jid": state.last_jid,
    }
