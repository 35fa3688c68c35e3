"""What a person does by hand: switch something off, switch it on again. In SQL, in the audit, and at once in Redis.

Each works with one of the two away. Without Redis it is published as soon as a process of reconcilers can; without SQL it
stands in Redis alone until one of them can write it down. What a person says is the whole of it: it replaces what was
said by hand of that flag before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic, time
from typing import Final

from sqlalchemy import Engine

from qik_core.errors import QikError
from qik_core.passes import Passes
from qik_core.switches import Condition, Rule, Snapshot
from reconciler.asking import Asked
from reconciler.errors import NotMigrated, SqlUnavailable, StatementTimeout
from reconciler.registry import everything
from reconciler.switches.fitting import UnfitSwitch, unfit
from reconciler.switches.provider import Rules, Source
from reconciler.switches.publishing import (
    Following,
    NotPublished,
    following,
    of_source,
    sound,
    too_large,
)
from reconciler.switches.rules import BY_HAND, in_force, merged, stops
from reconciler.switches.settling import By, settle
from reconciler.switches.table import NOW, Said, Shelf, Table, Writer

_TRIES: Final = 3
_Make = Callable[[Rules, float], tuple[Rule, ...]]
"""From what the other providers say, and the moment, to what is said by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be off, for whom, and how long."""

    flag: str
    by: By
    percent: float = 100.0
    where: tuple[Condition, ...] = ()
    expires_in: float | None = None
    """Seconds; None: until somebody enables it."""
    cancel: bool = False
    """Jobs that run already are asked to stop."""


@dataclass(slots=True)
class Done:
    """What has become of it."""

    flag: str
    before: tuple[Rule, ...] = ()
    """What was in force before, whoever said so."""
    now: tuple[Rule, ...] = ()
    """What is in force."""
    in_sql: bool = False
    version: int | None = None
    """Of the snapshot that says so; None: Redis does not answer."""
    counted: int | None = None
    """Jobs that the flag had stopped before it went on; None: not known."""
    errors: list[QikError] = field(default_factory=list)
    """Of whom did not answer; UnfitSwitch: it was refused before anything was written."""


@dataclass(frozen=True, slots=True)
class Switcher:
    """Says things by hand. `seam` is None where no Redis is named; SQL has `patience` seconds to answer."""

    home: Engine
    seam: Passes | None
    patience: float = 10.0

    def disable(self, order: Order) -> Done:
        """Switch a flag on, which stops work. Raises nothing of ours: see `Done.errors`."""

        def rules(_: Rules, now: float) -> tuple[Rule, ...]:
            expires = None if order.expires_in is None else now + order.expires_in
            return (
                Rule(
                    percent=order.percent,
                    where=order.where,
                    source=Source.SQL.value,
                    who=order.by.who,
                    reason=order.by.reason,
                    since=now,
                    expires_at=expires,
                    cancel=order.cancel,
                ),
            )

        return self._say(order.flag, order.by, rules)

    def enable(self, flag: str, by: By, expires_in: float | None = None) -> Done:
        """Let work run again: take back what was said by hand, and pass over others who say otherwise, for so many seconds.

        Raises nothing of ours: see `Done.errors`.
        """

        def rules(others: Rules, now: float) -> tuple[Rule, ...]:
            if not stops(others.get(flag, ()), now):
                return ()
            until = None if expires_in is None else now + expires_in
            over = Rule(percent=0.0, source=Source.SQL.value, who=by.who, reason=by.reason)
            return (replace(over, since=now, expires_at=until),)

        return self._say(flag, by, rules)

    def _say(self, flag: str, by: By, rules: _Make) -> Done:
        done = Done(flag)
        try:
            _refuse(flag, unfit(flag, [Rule(who=by.who, reason=by.reason)]))
            self._do(done, by, rules)
        except UnfitSwitch as error:
            done.errors.append(error)
        return done

    def _do(self, done: Done, by: By, rules: _Make) -> None:
        flag = done.flag
        published = Snapshot() if self.seam is None else self.seam.switches()
        counts = self._counts(done)
        done.counted = None if counts is None else counts.get(flag, 0)
        shelf = self._in_sql(done, by, rules, counts, published)
        if shelf is None:
            known = self._only_in_redis(done, by, published, rules)
        else:
            known = _known(shelf, published, flag)
        done.now = merged(known, time()).get(flag, ())
        self._publish(done, published, known, shelf)

    def _counts(self, done: Done) -> Mapping[str, int] | None:
        try:
            return None if self.seam is None else self.seam.switched_off()
        except QikError as error:
            done.errors.append(error)
            return None

    def _in_sql(
        self,
        done: Done,
        by: By,
        rules: _Make,
        counts: Mapping[str, int] | None,
        published: Snapshot,
    ) -> Shelf | None:
        def write(writer: Writer) -> tuple[tuple[Rule, ...], Said | None, Shelf]:
            now, known = writer.before.now, writer.before.known()
            others = {name: each for name, each in known.items() if name not in BY_HAND}
            made = rules(merged(others, now), now)
            _check(done.flag, made, published, _known(writer.before, published, done.flag))
            if made:
                writer.put(Said(done.flag, Source.SQL.value, made, by.who, by.reason, now))
            else:
                writer.drop(done.flag, Source.SQL.value)
            settle(writer, counts, {done.flag: by})
            noted = writer.before.said.get((done.flag, NOW))
            return merged(known, now).get(done.flag, ()), noted, writer.shelf

        began = Asked(lambda: Table(self.home).change(write), monotonic() + self.patience)
        answer = began.answer(SqlUnavailable, "the home database")
        if answer is None:
            done.errors.append(_ours(began.error))
            return None
        done.before, noted, shelf = answer
        done.in_sql = True
        done.counted = done.counted if noted is None else noted.counted
        return shelf

    def _only_in_redis(
        self, done: Done, by: By, published: Snapshot, rules: _Make
    ) -> dict[str, Rules]:
        """Say it in Redis alone; whoever can write it into SQL first does so."""
        now = time()
        done.before = in_force(published.rules.get(done.flag, ()), now)
        sources = {rule.source for each in published.rules.values() for rule in each}
        known = {source: dict(of_source(published, source)) for source in sources}
        others = {name: each for name, each in known.items() if name not in BY_HAND}
        made = tuple(
            replace(each, source=Source.REDIS.value) for each in rules(merged(others, now), now)
        )
        _check(done.flag, made, published, known)
        # Of what SQL would say nothing is known but what is published, so nothing may be left to it.
        redis = Source.REDIS.value
        over = Rule(percent=0.0, source=redis, who=by.who, reason=by.reason, since=now)
        known.setdefault(Source.REDIS.value, {})[done.flag] = made or (over,)
        return dict(known)

    def _publish(
        self, done: Done, published: Snapshot, known: Mapping[str, Rules], shelf: Shelf | None
    ) -> None:
        if self.seam is None or any(not _is_of_sql(each) for each in done.errors):
            return
        health = () if shelf is None else shelf.health.values()
        complete = all(each.known for each in health) if health else published.known
        new = _following(published, known, complete=complete).snapshot
        try:
            done.version = published.version if new is None else _stands(self.seam, new)
        except QikError as error:
            done.errors.append(error)


def _check(
    flag: str, made: tuple[Rule, ...], published: Snapshot, known: Mapping[str, Rules]
) -> None:
    """Refuse what could not be kept, and what stops work and could not be published beside all others. Raises UnfitSwitch."""
    _refuse(flag, unfit(flag, made))
    if not any(each.percent for each in made):
        return
    source = made[0].source
    then = {**known, source: {**known.get(source, {}), flag: made}}
    new = _following(published, then, complete=published.known).snapshot
    _refuse(flag, "" if new is None else too_large(new))


def _refuse(flag: str, why: str) -> None:
    if why:
        raise UnfitSwitch(f"{flag} stays as it is: {why}")


def _following(published: Snapshot, known: Mapping[str, Rules], *, complete: bool) -> Following:
    reconciled = {*published.reconciled, *(each.facts.name for each in everything())}
    return following(published, known, time(), complete=complete, reconciled=reconciled)


def _stands(seam: Passes, new: Snapshot) -> int:
    """Publish this, behind whatever somebody else publishes at the same moment from what they knew before."""
    stands = 0
    for _ in range(_TRIES):
        stands = seam.publish(new)
        if stands == new.version:
            return stands
        new = replace(new, version=max(stands, new.version) + 1)
    raise NotPublished(stands)


def _known(shelf: Shelf, published: Snapshot, flag: str) -> dict[str, Rules]:
    """Return what each provider says, as SQL has it; of one that SQL has never heard of what is published."""
    known = sound(shelf)
    sources = {rule.source for rules in published.rules.values() for rule in rules}
    for source in sources - known.keys() - shelf.health.keys() - {Source.SQL.value}:
        known[source] = of_source(published, source)
    waiting = dict(known.get(Source.REDIS, {}))
    waiting.pop(flag, None)
    return {**known, Source.REDIS: waiting}


def _ours(error: Exception | None) -> QikError:
    """Return an error of the database; one that nobody expected is raised."""
    if isinstance(error, (SqlUnavailable, StatementTimeout, NotMigrated)):
        return error
    raise error or SqlUnavailable("no answer from the home database")


def _is_of_sql(error: QikError) -> bool:
    return isinstance(error, (SqlUnavailable, StatementTimeout, NotMigrated))
