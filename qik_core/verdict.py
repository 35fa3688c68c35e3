"""What becomes of a job that has failed: by its own word, by the rules of its class, or by Sidekiq's formula.

The methods of a class that are asked here may raise; that is reported, and the default holds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from qik_core import hooks, retry
from qik_core.definition import Definition
from qik_core.outcomes import Discard, Outcome, RetryIn, Terminal
from qik_core.payload import Payload
from qik_core.retry import Again, Bury, Decision, Drop

_COUNTLESS: Final = sys.maxsize
_DISCARDED: Final = Drop("discarded")


def decide(
    payload: Payload,
    error: BaseException,
    definition: Definition,
    *,
    now: float,
    dice: float,
    many: int,
) -> Decision:
    """Say what becomes of this job after this error; `many` is what `retry=True` means.

    Raises nothing, whatever the methods of the class do.
    """
    decision = _decide(payload, error, definition, now, (dice, many))
    if not isinstance(decision, Bury):
        return decision
    exhausted = definition.rules.exhausted
    if exhausted is not None and isinstance(_ask(payload, exhausted, payload, error), Discard):
        return _DISCARDED
    return Drop(terminal=decision.terminal) if payload.get("dead") is False else decision


def _decide(
    payload: Payload,
    error: BaseException,
    definition: Definition,
    now: float,
    chance: tuple[float, int],
) -> Decision:
    dice, many = chance
    rules, count = definition.rules, retry.failures_of(payload)
    limit = _limit(payload, definition, now, many)
    said: object = error
    if not isinstance(error, Outcome):
        if isinstance(error, rules.discard_on):
            return _DISCARDED
        if rules.retry_on and not isinstance(error, rules.retry_on):
            return retry.decide(count, min(limit, 0), dice=dice)
        said = rules.retry_in and _ask(payload, rules.retry_in, count, error, payload)
    match said:
        case Discard():
            return _DISCARDED
        case Terminal():
            return Drop(terminal=True) if limit < 0 else Bury(terminal=True)
        case RetryIn(seconds=seconds):
            decision = retry.decide(count, limit, dice=dice)
            return Again(seconds) if isinstance(decision, Again) else decision
        case _:
            return retry.decide(count, limit, dice=dice, wait=_seconds(said))


def _limit(payload: Payload, definition: Definition, now: float, many: int) -> int:
    limit = retry.limit_of(payload, definition.fields["retry"], many)
    seconds = payload.get("retry_for")
    if type(seconds) is not int or limit < 0:
        return limit
    # As Sidekiq since 8.1: with retry_for the number of retries does not count.
    return _COUNTLESS if now - retry.failed_at(payload, now) < seconds else 0


def _seconds(said: object) -> float | None:
    seconds = said.total_seconds() if isinstance(said, timedelta) else said
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return None
    return seconds if 0 < seconds < sys.maxsize else None


def _ask(job: Payload, ask: Callable[..., object], *args: Any) -> object:
    try:
        return ask(*args)
    except BaseException as raised:  # noqa: BLE001 - user code; it is reported
        hooks.report(raised, {"job": job.class_name, "jid": job.jid, "handler": ask.__name__})
        return None
