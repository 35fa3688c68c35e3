"""What the engine asks of rows: does the row of this job still match? Read `look` first.

    job → the reconcilers of its class → the key in its arguments → one query for all keys, on the primary

The same predicate as that of a pass, without `min_age`: an application's own push comes before a row is old enough for
passes. Whatever cannot be asked is unknown, and the job runs: a false "gone" would keep a row from ever being done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Lock
from time import monotonic
from typing import Any, Final

from sqlalchemy import Engine

from qik_core import settings
from qik_core.errors import QikError
from qik_core.rows import Asked, Standing
from qik_core.settings import Settings
from reconciler import registry, sql
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import ReconcilerError, SqlUnavailable
from reconciler.holding import Grip, Hold, hold
from reconciler.inverse import Key
from reconciler.occurrences import SlotQuestion
from reconciler.question import Question
from reconciler.sessions import JobSession, held_on, opener, warn_in_loop
from reconciler.tellers import Place, Teller, Tellers

log: Final = logging.getLogger("reconciler")

TIMEOUT: Final = 5.0
"""Seconds that a question may take, however long a page may: jobs wait for it."""
AWAY: Final = 2.0
"""Seconds for which a database that could not be reached is not asked again: each question would wait for it."""
QUIET: Final = 60.0
"""Seconds between two log lines about one reconciler that cannot be asked."""


class Recheck:
    """Knows the rows of one process's jobs: fills `qik_core.rows`. Safe to use from many threads.

    `engines` is asked each time, since the settings may change.
    """

    def __init__(
        self, engines: Callable[[], Engines], clock: Callable[[], float] = monotonic
    ) -> None:
        self._engines = engines
        self._clock = clock
        self._classes: dict[str, Tellers] = {}
        self._questions: dict[tuple[str, str], tuple[Definition, Question]] = {}
        self._away: dict[Place, float] = {}
        self._said: dict[str, float] = {}

    # --- from memory -----------------------------------------------------------------------------

    def reconciled(self, name: str) -> bool:
        """Whether a reconciler tells rows of this job class."""
        return bool(registry.telling(name))

    def checked(self, name: str) -> bool:
        """Whether jobs of this class are asked for just before they run."""
        return self._tellers(name).checked

    def progress(self, name: str) -> bool:
        """Whether a job of this class that ended well is expected to leave its row pending no more."""
        return self._tellers(name).progress

    # --- of many rows ----------------------------------------------------------------------------

    def look(self, asked: Sequence[Asked]) -> list[Standing]:
        """Say how the rows of these jobs of one class stand: pending if they match in any of its reconcilers."""
        tellers = self._tellers(asked[0].name) if asked else None
        if tellers is None or not tellers.known:
            return [Standing.UNKNOWN] * len(asked)
        standings = [Standing.GONE] * len(asked)
        for teller in tellers.each:
            for place, jobs in _by_place(teller, asked, standings).items():
                found = self._ask(teller, place, [key for _, key in jobs])
                for (at, _), standing in zip(jobs, found, strict=True):
                    standings[at] = _better(standings[at], standing)
        return standings

    def _ask(self, teller: Teller, place: Place, keys: Sequence[Key]) -> list[Standing]:
        try:
            engine = self._reachable(place)
            question = self._question(teller.definition, engine)
            reading = partial(sql.reading, engine, _timeout(teller))
            found = sql.again(lambda: question.pending(reading, keys))
        except Exception as error:  # noqa: BLE001 - whatever it is, the jobs run
            self._unknown(teller, place, len(keys), error)
            return [Standing.UNKNOWN] * len(keys)
        if None in found:
            self._unknown(teller, place, found.count(None), ReconcilerError(_UNSENT))
        return list(map(_STANDINGS.__getitem__, found))

    def _reachable(self, place: Place) -> Engine:
        if self._away.get(place, 0.0) > self._clock():
            raise SqlUnavailable(f"it could not be reached in the last {AWAY:g} s")
        return self._engines().of(place)

    def _unknown(self, teller: Teller, place: Place, keys: int, error: Exception) -> None:
        """Say once a minute what keeps the rows of a reconciler from being asked for."""
        now, name = self._clock(), teller.definition.name
        if isinstance(error, SqlUnavailable) and self._away.get(place, 0.0) <= now:
            self._away[place] = now + AWAY
        if now - self._said.get(name, float("-inf")) < QUIET:
            return
        self._said[name] = now
        log.warning(
            "rows cannot be asked for: their jobs run unchecked",
            exc_info=None if isinstance(error, QikError) else error,
            extra={"reconciler": name, "shard": place.shard, "keys": keys, "error": str(error)},
        )

    # --- of one row ------------------------------------------------------------------------------

    def row(self, name: str, args: tuple[Any, ...]) -> Any:
        """Return the row behind a job as the reconciler's select reads it now, None if it matches no more.

        Inside of a `Guard.row_lock()` it is read in the transaction that holds it.

        Raises:
            QikError: no reconciler tells this class, or the row cannot be read.
        """
        warn_in_loop("self.context.row", "await asyncio.to_thread(lambda: self.context.row)", 4)
        tellers = self._tellers(name)
        if not tellers.known:
            raise ReconcilerError(_untold(name) if not tellers.each else _HIDDEN.format(name=name))
        for teller in tellers.each:
            key = teller.key(args)
            if key is None:
                continue
            found = self._row(teller, self._engines().of(teller.place(args)), key)
            if found is not None:
                return teller.own(found)
        return None

    def _row(self, teller: Teller, engine: Engine, key: Key) -> Any:
        question = self._question(teller.definition, engine)
        session = held_on(engine)
        if session is not None:
            return question.row(session.connection(), key)
        with sql.reading(engine, _timeout(teller)) as connection:
            return question.row(connection, key)

    def session(self, name: str, args: tuple[Any, ...]) -> JobSession:
        """Return a session on the database of a job's row: for `with`, and for `async with` in `async def` jobs.

        Raises:
            QikError: no reconciler tells this class, or none knows the database.
        """
        tellers = self._tellers(name).each
        if not tellers:
            raise ReconcilerError(_untold(name))
        teller = next((each for each in tellers if each.key(args) is not None), tellers[0])
        place = teller.place(args)
        engines = self._engines()
        return JobSession(engines.given(place), lambda: engines.of(place), place.database)

    @contextmanager
    def guarded(self, name: str, args: tuple[Any, ...]) -> Iterator[bool]:
        """Hold what the reconcilers of a class say in `guard=`; False where somebody else has it, or the row is gone.

        Raises:
            QikError: the guard cannot be held here, or its database cannot be reached.
        """
        tellers = self._tellers(name)
        if not tellers.guarded:
            yield True
            return
        with ExitStack() as stack:
            grips = [self._grip(stack, each, tellers, args) for each in tellers.each]
            yield Grip.BUSY not in grips and (Grip.HELD in grips or _is_free(tellers, args))

    def _grip(
        self, stack: ExitStack, teller: Teller, tellers: Tellers, args: tuple[Any, ...]
    ) -> Grip:
        key, definition = teller.key(args), teller.definition
        if definition.guard is None or key is None:
            return Grip.ABSENT
        place = teller.place(args)
        engine = self._engines().of(place)
        row = Hold(
            definition.name,
            definition.guard,
            definition.shape,
            self._question(definition, engine),
            tellers.checked,
            engine,
            key,
        )
        lock = definition.job.definition.digests([args])[0]
        make = opener(self._engines().given(place), engine)
        return stack.enter_context(hold(row, make, definition.facts.name.encode() + b"/" + lock))

    # --- what is kept ----------------------------------------------------------------------------

    def _tellers(self, name: str) -> Tellers:
        definitions = registry.telling(name)
        known = self._classes.get(name)
        if known is None or known.definitions is not definitions:
            known = self._classes[name] = Tellers.of(definitions)
        return known

    def _question(self, definition: Definition, engine: Engine) -> Question:
        place = (definition.name, engine.dialect.name)
        known = self._questions.get(place)
        if known is None or known[0] is not definition:
            kind = Question if definition.shape.slots is None else SlotQuestion
            known = definition, kind(definition.shape, engine.dialect.name)
            self._questions[place] = known
        return known[1]


def _by_place(
    teller: Teller, asked: Sequence[Asked], standings: Sequence[Standing]
) -> dict[Place, list[tuple[int, Key]]]:
    """Return the jobs whose rows this reconciler may have, by where those are; without those that are known to be pending."""
    found: dict[Place, list[tuple[int, Key]]] = {}
    for at, each in enumerate(asked):
        key = teller.key(each.args)
        if key is not None and standings[at] is not Standing.PENDING:
            found.setdefault(teller.place(each.args), []).append((at, key))
    return found


def _better(one: Standing, other: Standing) -> Standing:
    """Return what two reconcilers say together: pending if one says so, gone if none has a doubt."""
    return min(one, other, key=_ORDER.index)


def _is_free(tellers: Tellers, args: tuple[Any, ...]) -> bool:
    """Say whether a job may run whose row no guard found: it is told by a reconciler without, or looked at by none."""
    if not tellers.checked:
        return True
    return any(
        each.definition.guard is None and each.key(args) is not None for each in tellers.each
    )


def _timeout(teller: Teller) -> float:
    return min(teller.definition.statement_timeout, TIMEOUT)


def _untold(name: str) -> str:
    return (
        f"no reconciler tells {name}, so nothing says where its rows are: define one, "
        "or open a session of your own"
    )


_HIDDEN: Final = "the row of a {name} cannot be found: args= of its reconciler changes the key. Return the key columns unchanged"
_UNSENT: Final = "keys have a value that this database cannot take"
_ORDER: Final = (Standing.PENDING, Standing.UNKNOWN, Standing.GONE)
_STANDINGS: Final = {True: Standing.PENDING, False: Standing.GONE, None: Standing.UNKNOWN}

# --- one per process ----------------------------------------------------------------------------

_lock: Final = Lock()
_made: tuple[Settings, Engines] | None = None


def of_process() -> Recheck:
    """Return what knows the rows of this process's jobs, on the databases of its settings."""
    return Recheck(_engines)


def _engines() -> Engines:
    """Return the engines of the settings; new ones when those are others than before."""
    global _made  # noqa: PLW0603 - one per process
    wanted = settings.current()
    with _lock:
        if _made is None or _made[0] is not wanted:
            if _made is not None:
                _made[1].dispose()
            _made = wanted, Engines(wanted.databases)
        return _made[1]
