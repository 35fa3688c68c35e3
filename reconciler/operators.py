"""What a person may do about rows that are held back: release them, quarantine one. Each act is in the audit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import exc

from qik_core.errors import ArgumentError
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import ReconcilerError
from reconciler.inverse import Key
from reconciler.memory import Memory
from reconciler.onerow import OfRow, digest_of_key, of_row
from reconciler.quarantine import readable, written
from reconciler.sql import again
from reconciler.states import UNSEEN, Hold, Reason, State
from reconciler.words import cause

RELEASED: Final = "quarantine.release"
ADDED: Final = "quarantine.add"
_SHOWN: Final = 10


class NoSuchRow(ReconcilerError):
    """Nothing is remembered of a row, or there is no such row."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts, and why."""

    who: str
    reason: str


def digest_of(engines: Engines, definition: Definition, key: Key) -> str:
    """Return the key of the lock that a row has.

    Raises:
        NoSuchRow: it follows from more than the key, and the row is not there.
        SqlUnavailable: the row's database does not answer.
    """
    digest = digest_of_key(definition, key) or _seen(engines, definition, key).digest
    if not digest:
        raise NoSuchRow(
            f"{_subject(definition, key)}: there is no such row, and its key alone does not name its job"
        )
    return digest


def release(engines: Engines, definition: Definition, key: Key, by: Operator) -> State:
    """Forget what is remembered of a row, so that the next pass tells it; returns what that was.

    Raises:
        NoSuchRow: nothing is.
        SqlUnavailable: a database does not answer.
    """
    memory, digest = Memory(engines.home()), digest_of(engines, definition, key)
    found = remembered(memory, definition.facts.name, digest)
    if found is None or not release_one(memory, found, definition.unit, by):
        raise NoSuchRow(f"{_subject(definition, key)}: nothing holds this row back")
    return found


def remembered(memory: Memory, job: str, digest: str) -> State | None:
    """Return what is remembered of the row with this key; None where nothing is. Raises SqlUnavailable."""
    found = again(lambda: memory.of_keys(job, [digest]))
    return found[0][0] if found else None


def release_one(memory: Memory, state: State, subject: str, by: Operator) -> bool:
    """Forget a state; False where something has happened to its row since it was read.

    `subject` is what the audit calls the reconciler, or the job where nobody knows that. Raises SqlUnavailable.
    """
    return bool(_forget(memory, subject, [state], by))


def quarantined(memory: Memory, definition: Definition) -> int:
    """Return how many rows of a reconciler are quarantined. Raises SqlUnavailable."""
    return memory.held(definition.facts.name, definition.shard).get(Hold.QUARANTINED, 0)


def release_all(memory: Memory, definition: Definition, by: Operator) -> int:
    """Release every quarantined row of a reconciler; says how many. Raises SqlUnavailable."""
    return _all(memory, definition.facts.name, {definition.shard}, definition.unit, by)


def release_job(memory: Memory, job: str, subject: str, by: Operator) -> int:
    """Release every quarantined row of a job class, in all shards; says how many. Raises SqlUnavailable."""
    return _all(memory, job, None, subject, by)


def _all(
    memory: Memory, job: str, shards: Collection[str] | None, subject: str, by: Operator
) -> int:
    total, after = 0, ""
    while page := memory.page(job, shards, after=(job, after), hold=Hold.QUARANTINED):
        total += _forget(memory, subject, page, by)
        after = page[-1].digest
    return total


def _forget(memory: Memory, subject: str, page: Sequence[State], by: Operator) -> int:
    return again(lambda: memory.forget(page, _note(RELEASED, subject, page, by)))


def quarantine(engines: Engines, definition: Definition, key: Key, by: Operator) -> State:
    """Have passes leave a row out until somebody releases it. A job that exists runs all the same.

    Raises:
        NoSuchRow: there is no such row.
        SqlUnavailable: a database does not answer.
    """
    seen = _seen(engines, definition, key)
    if not seen.digest or seen.args is None:
        why = seen.invalid or "there is no such row"
        raise NoSuchRow(f"{_subject(definition, key)}: {why}")
    args = _wire(definition, seen.args)
    memory, name = Memory(engines.home()), definition.facts.name
    state = replace(
        remembered(memory, name, seen.digest)
        or State(job=name, digest=seen.digest, shard=definition.shard),
        hold=Hold.QUARANTINED,
        reason=Reason.OPERATOR,
        error=by.reason,
        key=readable(definition, args),
        args=written(args),
        version=seen.version or UNSEEN,
    )
    again(lambda: memory.keep(state, _note(ADDED, definition.unit, [state], by)))
    return state


def _seen(engines: Engines, definition: Definition, key: Key) -> OfRow:
    try:
        return of_row(engines.of(definition), definition, key)
    except exc.SQLAlchemyError as error:
        raise ReconcilerError(
            f"the select of {definition.name} fails, so none of its rows can be looked at: {cause(error)}. "
            "Correct it, or migrate; then repeat this"
        ) from error


def _wire(definition: Definition, args: Sequence[Any]) -> list[Any]:
    try:
        return list(definition.job.definition.arguments.dump(args, {}))
    except ArgumentError as error:
        raise NoSuchRow(f"{definition.unit}: its job cannot travel: {error}") from None


def _note(action: str, subject: str, states: Sequence[State], by: Operator) -> dict[str, Any]:
    keys = [each.key for each in states]
    one = len(states) == 1
    return {
        "action": action,
        "who": by.who,
        "reason": by.reason,
        "subject": f"{subject} {keys[0]}" if one else subject,
        "details": {
            "job": states[0].job,
            "rows": len(states),
            "keys": keys[:_SHOWN],
            "ended": states[0].ends if one else sum(each.ends for each in states),
        },
    }


def _subject(definition: Definition, key: Key) -> str:
    return f"{definition.unit} {', '.join(map(str, key))}"
