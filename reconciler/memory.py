"""The table of remembered rows, as statements: read, lock, write. `quarantine` says what they mean.

Whoever adds a row holds the mark first, a row of its own in the same table: so no two add the same one, and the mark says
which records were drained last. Times are the database's own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    exc,
    func,
    insert,
    select,
    update,
)

from reconciler.audit import write_down
from reconciler.errors import Conflict
from reconciler.sql import clock, reading, where, writing
from reconciler.states import Change, Hold, Reason, State
from reconciler.tables import row_state

QUERY: Final = 10.0
"""Seconds that a statement may take."""
CHUNK: Final = 500
MARK: Final = "#"
"""The job class of the mark: no job is called so."""
_DRAINED: Final = "drained"
_KEY: Final = 1_000
_JID: Final = 64
_columns = row_state.c

Left = tuple[State, float]
"""A state, and in how many seconds its time comes."""


class Memory:
    """What is remembered of rows, in the home database. All methods raise SqlUnavailable and NotMigrated."""

    def __init__(self, home: Engine) -> None:
        self._home = home
        self._clock = clock(home.dialect.name)

    # --- reading ---------------------------------------------------------------------------------

    def counts(self) -> dict[str, dict[Hold, int]]:
        """Return for each job class how many rows are waiting, their time come or not, and how many quarantined."""
        counted = (
            select(_columns.job_class, _columns.state, func.count())
            .where(_columns.job_class != MARK)
            .group_by(_columns.job_class, _columns.state)
        )
        found: dict[str, dict[Hold, int]] = {}
        for row in self._read(counted):
            found.setdefault(row[0], {})[Hold(row[1])] = row[2]
        return found

    def held(self, job: str, shard: str) -> dict[Hold, int]:
        """Return how many rows of a class and shard are held now: those whose time has come are not."""
        counted = (
            select(_columns.state, func.count())
            .where(
                _columns.job_class == job,
                _columns.shard == shard,
                (_columns.state == Hold.QUARANTINED.value) | (_columns.next_at > self._clock),
            )
            .group_by(_columns.state)
        )
        return {Hold(row[0]): row[1] for row in self._read(counted)}

    def of_class(self, job: str) -> list[Left]:
        """Return all states of a job class."""
        return self._states(_columns.job_class == job)

    def of_keys(self, job: str, digests: Sequence[str]) -> list[Left]:
        """Return the states of these keys, as far as they have one."""
        return [
            each
            for chunk in _chunks(digests)
            for each in self._states(_columns.job_class == job, _columns.key_digest.in_(chunk))
        ]

    def page(
        self,
        job: str | None = None,
        shards: Collection[str] | None = None,
        *,
        after: tuple[str, str] = ("", ""),
        hold: Hold | None = None,
    ) -> list[State]:
        """Return up to CHUNK states behind a class and a key, in that order."""
        wanted = [_columns.job_class != MARK, _behind(after)]
        if job is not None:
            wanted.append(_columns.job_class == job)
        if shards is not None:
            wanted.append(_columns.shard.in_(shards))
        if hold is not None:
            wanted.append(_columns.state == hold.value)
        return [state for state, _ in self._states(*wanted, most=CHUNK)]

    def _states(self, *wanted: ColumnElement[bool], most: int | None = None) -> list[Left]:
        query = (
            select(row_state, (_columns.next_at - self._clock).label("due_in"))
            .where(*wanted)
            .order_by(_columns.job_class, _columns.key_digest)
            .limit(most)
        )
        return [(_state(row), float(row.due_in)) for row in self._read(query)]

    def _read(self, query: Select[Any]) -> Sequence[Any]:
        with reading(self._home, QUERY) as connection:
            return connection.execute(query).fetchall()

    # --- writing ---------------------------------------------------------------------------------

    @contextmanager
    def marked(self) -> Iterator[tuple[Connection, frozenset[str]]]:
        """Yield a connection in a transaction that holds the mark, and what the mark says was drained last.

        Raises:
            Conflict: another process made the mark at the same moment.
        """
        mine = _columns.job_class == MARK, _columns.key_digest == _DRAINED
        with writing(self._home) as connection:
            query = select(_columns.key).where(*mine).with_for_update()
            drained = connection.execute(query).scalar_one_or_none()
            if drained is None:
                self._make_mark(connection)
            yield connection, frozenset((drained or "").split())

    def _make_mark(self, connection: Connection) -> None:
        try:
            self._insert(connection, [State(job=MARK, digest=_DRAINED)], [0.0])
        except exc.IntegrityError as error:
            raise Conflict(f"{where(self._home)}: {error.orig}") from error

    def mark(self, connection: Connection, drained: Iterable[str]) -> None:
        """Say which records were drained last."""
        mine = _columns.job_class == MARK, _columns.key_digest == _DRAINED
        connection.execute(update(row_state).where(*mine).values(key=" ".join(drained)))

    def locked(
        self, connection: Connection, keys: Mapping[str, Collection[str]]
    ) -> dict[tuple[str, str], State]:
        """Return the states of class → keys, locked until the transaction ends.

        Whoever writes several rows locks them by this first, in one order: so nobody waits for somebody who waits for him.
        """
        found = {}
        for job, digests in sorted(keys.items()):
            for chunk in _chunks(sorted(digests)):
                query = (
                    select(row_state)
                    .where(_columns.job_class == job, _columns.key_digest.in_(chunk))
                    .order_by(_columns.key_digest)
                    .with_for_update()
                )
                for row in connection.execute(query):
                    found[job, row.key_digest] = _state(row)
        return found

    def ended(
        self,
        connection: Connection,
        before: Mapping[tuple[str, str], State],
        changes: Mapping[tuple[str, str], Change],
    ) -> None:
        """Write what follows from jobs that have ended: their times begin now."""
        new = {at: each for at, each in changes.items() if at not in before and each.state}
        old = {at: each for at, each in changes.items() if at in before and each.state}
        gone = [at for at, each in changes.items() if at in before and each.state is None]
        if new:
            states = [each.state for each in new.values() if each.state]
            self._insert(connection, states, [each.delay or 0.0 for each in new.values()])
        if old:
            connection.execute(
                _by_key(update(row_state)).values(
                    **{name: bindparam(f"b_{name}") for name in _PLAIN},
                    next_at=self._clock + bindparam("b_delay"),
                    last_at=self._clock,
                ),
                [_values(each.state, each.delay) for each in old.values() if each.state],
            )
        if gone:
            connection.execute(
                _by_key(delete(row_state)), [{"b_job": job, "b_digest": key} for job, key in gone]
            )

    def judged(self, before: Sequence[State], after: Sequence[Change], shard: str) -> None:
        """Write what a pass has found, where nothing else has happened to the row since it was read."""
        forgotten: list[dict[str, Any]] = []
        kept: list[dict[str, Any]] = []
        timed: list[dict[str, Any]] = []
        for state, change in zip(before, after, strict=True):
            guard = _guard(state)
            if change.state is None:
                forgotten.append(guard)
                continue
            values = {**guard, **_values(change.state, change.delay), "b_shard": shard}
            (kept if change.delay is None else timed).append(values)
        with writing(self._home) as connection:
            self.locked(connection, _keys(before))
            if forgotten:
                connection.execute(_unchanged(delete(row_state)), forgotten)
            for rows, times in (
                (kept, {}),
                (timed, {"next_at": self._clock + bindparam("b_delay")}),
            ):
                if rows:
                    values = {name: bindparam(f"b_{name}") for name in _JUDGED}
                    connection.execute(
                        _unchanged(update(row_state)).values(**values, **times), rows
                    )

    def keep(self, state: State, note: Mapping[str, Any]) -> None:
        """Remember a row as this says, whatever else is remembered of it. `note` is what the audit is told."""
        at = state.job, state.digest
        with self.marked() as (connection, _):
            before = self.locked(connection, {state.job: {state.digest}})
            self.ended(connection, before, {at: Change(state, 0.0)})
            self.audit(connection, note)

    def forget(self, states: Sequence[State], note: Mapping[str, Any] | None = None) -> int:
        """Forget states, where nothing has happened to their rows since they were read; says how many are gone.

        `note` is what the audit is told of it.
        """
        with writing(self._home) as connection:
            self.locked(connection, _keys(states))
            count = 0
            for state in states:
                gone = connection.execute(_unchanged(delete(row_state)), _guard(state))
                count += gone.rowcount
            if note is not None and count:
                self.audit(connection, note)
        return count

    def audit(self, connection: Connection, note: Mapping[str, Any]) -> None:
        """Write who did what, why: `who`, `action`, `subject`, `reason`, and `details` as JSON."""
        write_down(
            connection,
            note["action"],
            str(note["subject"]),
            note["who"],
            note["reason"],
            note.get("details", {}),
        )

    def _insert(
        self, connection: Connection, states: Sequence[State], delays: Sequence[float]
    ) -> None:
        rows = []
        for state, delay in zip(states, delays, strict=True):
            values = _values(state, delay)
            keys = {"b_job_class": state.job, "b_key_digest": state.digest, "b_shard": state.shard}
            rows.append({**values, **keys})
        names = (*_PLAIN, "job_class", "key_digest", "shard")
        connection.execute(
            insert(row_state).values(
                **{name: bindparam(f"b_{name}") for name in names},
                next_at=self._clock + bindparam("b_delay"),
                first_at=self._clock,
                last_at=self._clock,
            ),
            rows,
        )


# --- rows and states ------------------------------------------------------------------------------

_PLAIN: Final = (
    *("key", "failures", "crashes", "no_progress", "state", "reason"),
    *("row_version", "last_jid", "error", "args", "chances"),
)
_JUDGED: Final = ("state", "row_version", "chances", "shard")


def _state(row: Row[Any]) -> State:
    return State(
        job=row.job_class,
        digest=row.key_digest,
        shard=row.shard,
        key=row.key,
        args=row.args or "",
        failures=row.failures,
        crashes=row.crashes,
        no_progress=row.no_progress,
        hold=Hold(row.state),
        reason=Reason(row.reason),
        error=row.error or "",
        version=row.row_version,
        jid=row.last_jid,
        chances=tuple((row.chances or "").split()),
        next_at=row.next_at,
        first_at=row.first_at,
        last_at=row.last_at,
    )


def _values(state: State, delay: float | None) -> dict[str, Any]:
    return {
        "b_job": state.job,
        "b_digest": state.digest,
        "b_key": state.key[:_KEY],
        "b_failures": state.failures,
        "b_crashes": state.crashes,
        "b_no_progress": state.no_progress,
        "b_state": state.hold.value,
        "b_reason": state.reason.value,
        "b_row_version": state.version,
        "b_last_jid": state.jid[:_JID],
        "b_error": state.error,
        "b_args": state.args,
        "b_chances": " ".join(state.chances),
        "b_delay": delay or 0.0,
    }


def _guard(state: State) -> dict[str, Any]:
    """Return what `_unchanged` compares: every end of a job and every verdict changes one of these."""
    return {
        "b_job": state.job,
        "b_digest": state.digest,
        "g_ends": state.ends,
        "g_jid": state.jid[:_JID],
        "g_state": state.hold.value,
        "g_version": state.version,
    }


def _keys(states: Iterable[State]) -> dict[str, set[str]]:
    keys: dict[str, set[str]] = {}
    for each in states:
        keys.setdefault(each.job, set()).add(each.digest)
    return keys


def _by_key(statement: Any) -> Any:
    return statement.where(
        _columns.job_class == bindparam("b_job"), _columns.key_digest == bindparam("b_digest")
    )


def _unchanged(statement: Any) -> Any:
    ends = _columns.failures + _columns.crashes + _columns.no_progress
    return _by_key(statement).where(
        ends == bindparam("g_ends"),
        _columns.last_jid == bindparam("g_jid"),
        _columns.state == bindparam("g_state"),
        _columns.row_version == bindparam("g_version"),
    )


def _behind(after: tuple[str, str]) -> ColumnElement[bool]:
    job, digest = after
    later = and_(_columns.job_class == job, _columns.key_digest > digest)
    return (_columns.job_class > job) | later


def _chunks(values: Sequence[str]) -> Iterator[list[str]]:
    left = iter(values)
    while chunk := list(islice(left, CHUNK)):
        yield chunk
