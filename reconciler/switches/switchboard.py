"""The switchboard of `reconciler run`: what providers and people say, merged, published in Redis, and audited in SQL.

Two threads, so that neither a database nor a Redis that hangs holds up the other:

    SQL    read the table → lead? → copy what providers say now, settle, audit        each second
    Redis  merge → what is published differs? → publish → tell this process           each second, at once on news

One process leads, by a lease in the table's mark: it alone writes what its providers say, and it alone corrects what is
published. All others know the same from SQL. While SQL does not answer nobody can lead for long; then whoever hears news
from its provider publishes them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, time
from typing import Final

from sqlalchemy import Engine

from qik_core.errors import QikError
from qik_core.passes import Passes
from qik_core.switches import Rule, Snapshot
from reconciler.periodic import Periodic
from reconciler.registry import everything
from reconciler.switches.fitting import legible
from reconciler.switches.provider import CLOSING, Provider, Rules, Source
from reconciler.switches.publishing import TOO_MANY, NotPublished, following, of_source, sound
from reconciler.switches.remembered import Remembered
from reconciler.switches.rules import all_same, changes, dated, in_force, merged
from reconciler.switches.settling import adopt, copy, forget, settle
from reconciler.switches.table import NOW, Health, Shelf, Table, Writer

log: Final = logging.getLogger("reconciler")

EVERY: Final = 1.0
"""Seconds between two looks, at SQL and at Redis."""
LEAD: Final = 10.0
"""Seconds after which another process publishes in place of one that is gone."""
_MARGIN: Final = 1.0
UNWELL: Final = 3.0
"""Seconds without an answer from SQL after which news of providers are published by whoever has them."""
_NOTE: Final = 15.0
"""Seconds between two notes that a provider is well."""

Changed = Callable[[Snapshot, Snapshot], None]
"""Hears of what was published before and what is now."""


class Switchboard:
    """The switches of one process of reconcilers."""

    def __init__(
        self,
        home: Engine,
        seam: Passes,
        providers: Sequence[Provider],
        holder: str,
        changed: Changed = lambda *_: None,
        remembered: Remembered | None = None,
    ) -> None:
        self._table = Table(home)
        self._seam = seam
        self._providers = providers
        self._holder = holder
        self._changed = changed
        self._remembered = remembered or Remembered()
        self._shelf: Shelf | None = None
        self._looked = self._read = float("-inf")
        self._mine = 0
        self._others = (0, 0.0)
        self._lead_until = float("-inf")
        self._news = False
        self._heard = 0.0
        self._noted = float("-inf")
        self._last: Snapshot | None = None
        self._waiting: Rules = {}
        self._adopted: Rules = {}
        self._left_out: tuple[str, ...] = ()
        self._sql = Periodic("switches in SQL", EVERY, self.keep)
        self._redis = Periodic("switches in Redis", EVERY, self.publish)
        self._threads = (self._sql, self._redis)

    def start(self) -> None:
        """Begin; never blocks."""
        self._read = monotonic()  # SQL is given the time to answer
        self._remembered.load()
        for each in self._providers:
            each.start(self._hear)
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> None:
        """End within so many seconds."""
        until = monotonic() + seconds
        for thread in self._threads:
            thread.stop(until - monotonic())
        for each in self._providers:
            each.close(min(CLOSING, until - monotonic()))

    def release(self) -> None:
        """Let another process publish. Raises SqlUnavailable, NotMigrated."""
        if self.leads:
            self._table.give(self._holder)

    @property
    def leads(self) -> bool:
        """This process publishes."""
        return monotonic() < self._lead_until

    def _hear(self) -> None:
        self._heard, self._news = monotonic(), True
        self._sql.hurry()  # first, since who publishes must know what people have said

    # --- SQL ---------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Read what the table says; if this process leads, write what has changed. Raises SqlUnavailable, NotMigrated."""
        try:
            self._keep()
        finally:
            if self._news:
                self._redis.hurry()

    def _keep(self) -> None:
        began = monotonic()
        shelf = self._table.read()
        self._take(shelf, began)  # before anything is written, since that may fail
        if self._lead(shelf, began) and self._wants(shelf):
            counts = self._counts()
            self._take(self._table.change(lambda writer: self._settle(writer, counts)), began)
            self._noted = monotonic()

    def _take(self, shelf: Shelf, began: float) -> None:
        """Go by what SQL said to a question that was asked at this moment."""
        before, self._shelf, self._looked, self._read = self._shelf, shelf, began, monotonic()
        if began > self._heard and shelf.publisher not in ("", self._holder):
            self._news = False  # another process leads, and hears the same
        if before is None or before.said != shelf.said:
            self._remembered.keep(shelf.known())
            self._redis.hurry()

    def _lead(self, shelf: Shelf, began: float) -> bool:
        """Take or keep the lead where it is free or ours; says whether it is ours."""
        if shelf.publisher not in ("", self._holder):
            self._lead_until = float("-inf")
        elif self._lead_until - began < LEAD / 2:
            ours = self._table.lead(self._holder, LEAD)
            self._lead_until = began + LEAD - _MARGIN if ours else float("-inf")
        return self.leads

    def _wants(self, shelf: Shelf) -> bool:
        """Return whether there is anything to write."""
        return (
            bool(self._waiting)
            or bool(
                self._strangers(shelf)
                or changes(shelf.of(NOW), merged(shelf.known(), shelf.now), shelf.now)
            )
            or any(self._differs(each, shelf) for each in self._providers)
            or any(not in_force(each, shelf.now) for each in shelf.of(Source.SQL).values())
        )

    def _differs(self, provider: Provider, shelf: Shelf) -> bool:
        """Return whether the table has to be told what a provider says, or how it is."""
        rules, noted = provider.rules(), shelf.health.get(provider.name)
        if rules is not None and not all_same(rules, shelf.of(provider.name)):
            return True
        problem = self._problem(provider)
        if noted is None or bool(noted.problem) != bool(problem):
            return True
        old = monotonic() - self._noted > _NOTE
        return old and (not problem or noted.problem != problem)

    def _problem(self, provider: Provider) -> str:
        """Return why what a provider says may be old, and what of it is not followed."""
        rules = provider.rules() or {}
        left_out = [f"{flag} {TOO_MANY}" for flag in self._left_out if flag in rules]
        return legible("; ".join(filter(None, [provider.health(), *left_out])))

    def _strangers(self, shelf: Shelf) -> set[str]:
        """Return the providers that the table knows, and this process does not ask."""
        return shelf.known().keys() - {Source.SQL.value, *(each.name for each in self._providers)}

    def _settle(self, writer: Writer, counts: Mapping[str, int] | None) -> Shelf:
        waiting = self._waiting
        by = adopt(writer, waiting)
        for source in self._strangers(writer.before):
            forget(writer, source)
        for each in self._providers:
            rules = each.rules()
            if rules is not None:
                copy(writer, each.name, rules)
            known = rules is not None
            writer.note(
                each.name, _health(each.name, self._problem(each), writer.before, known=known)
            )
        for change in settle(writer, counts, by):
            log.warning(
                "switch %s",
                change.action,
                extra={"switch": change.flag, "who": change.who, "reason": change.reason},
            )
        self._adopted = {**self._adopted, **waiting}
        return writer.shelf

    def _counts(self) -> Mapping[str, int] | None:
        try:
            return self._seam.switched_off()
        except QikError:
            return None

    # --- Redis -------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Publish what is known where that is not what is published; tell this process of it. Raises StoreError."""
        published = self._seam.switches()
        self._waiting = _without(of_source(published, Source.REDIS), self._adopted)
        if self._speaks():
            published = self._say(published)
        before, self._last = self._last, published
        if before is not None and before.rules != published.rules:
            self._changed(before, published)

    def _speaks(self) -> bool:
        """Return whether this process publishes: as the one that leads, or because SQL lets nobody lead."""
        if self.leads:
            return self._shelf is not None
        return monotonic() - self._read >= UNWELL

    def _say(self, published: Snapshot) -> Snapshot:
        """Publish; where there is nothing new the same once more, so that a Redis that lost it has it again."""
        if self.leads and self._is_behind(published):
            self._sql.hurry()
            return published
        news, self._news = self._news, False  # what is heard from now on is for the next time
        new = self._following(published) if news or self.leads else None
        try:
            if new is not None or published.version:
                stands = self._seam.publish(new or published)
                if new is not None and stands != new.version:
                    raise NotPublished(stands)
        except QikError:
            self._news = self._news or news
            raise
        self._mine = (new or published).version
        return new or published

    def _following(self, published: Snapshot) -> Snapshot | None:
        known = self._known(published)
        new, left_out = following(
            published,
            known,
            time(),
            complete=all(each.name in known for each in self._providers),
            reconciled={each.facts.name for each in everything()},
        )
        for flag in set(left_out) - set(self._left_out):
            log.warning("a switch does not fit", extra={"switch": flag, "reason": TOO_MANY})
        self._left_out = left_out
        return new

    def _is_behind(self, published: Snapshot) -> bool:
        """Return whether somebody has published what this process may not have read in SQL yet.

        Who says something by hand writes it there first. So a look at SQL that began later knows it, and none before may
        correct what is published.
        """
        if published.version in (0, self._mine):
            return False
        if published.version != self._others[0]:
            self._others = published.version, monotonic()
        return self._looked <= self._others[1]

    def _known(self, published: Snapshot) -> dict[str, Rules]:
        """Return what each provider says: by itself, else as it was known last."""
        known = dict(self._remembered.known if self._shelf is None else sound(self._shelf))
        if not self.leads and published.version:  # others may know more than SQL and disk said last
            sources = {rule.source for rules in published.rules.values() for rule in rules}
            silent = {each.name for each in self._providers} if published.known else set()
            known = {source: of_source(published, source) for source in sources | silent}
        for each in self._providers:
            rules = each.rules()
            if rules is not None:
                before = known.get(each.name, {})
                known[each.name] = {
                    flag: dated(new, before.get(flag, ()), time()) for flag, new in rules.items()
                }
        return {**known, Source.REDIS: self._waiting}


def _without(rules: Rules, adopted: Rules) -> dict[str, tuple[Rule, ...]]:
    return {flag: each for flag, each in rules.items() if adopted.get(flag) != each}


def _health(name: str, problem: str, shelf: Shelf, *, known: bool) -> Health:
    noted = shelf.health.get(name)
    known = known or (noted is not None and noted.known)
    since = noted.at if problem and noted is not None and noted.problem else shelf.now
    return Health(problem, since, known)
