"""Verbs on all jobs that a filter means: the plan, the question, and what became of them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import methodcaller
from typing import Any, Final

import click

from qik_core.api import Act, DeadSet, Filter, JobRecord, JobSet, Tally
from qik_core.cli import base, listing, screen
from qik_core.cli.group import FINDING, NO_REDIS, UNSAFE
from qik_core.errors import StoreError
from qik_core.settings import current as current_settings
from qik_core.store import Store

_CLASSES: Final = 10
_PAST: Final = {
    "advance": "advanced",
    "bury": "buried",
    "delete": "deleted",
    "retry": "retried",
}


Places = Callable[[Store], Sequence[JobSet]]


@dataclass(frozen=True, slots=True)
class Order:
    """What a person wants done."""

    verb: str
    wanted: Filter
    where: str
    """How the place is called: `retries`."""
    everything: bool = False
    dry_run: bool = False
    yes: bool = False
    lose: bool = False
    """The dead may be deleted for which the dead set has no place."""
    as_json: bool = False

    def check(self) -> None:
        """Refuse what says neither a filter nor `--all`.

        Raises:
            UsageError: so, or both.
        """
        if bool(self.wanted.terms) is self.everything:
            raise click.UsageError("say which jobs: a FILTER, as in class:Charge, or --all")


@dataclass(frozen=True, slots=True)
class Counting(Filter):
    """A filter that says how many jobs it was asked about."""

    say: Callable[[int], object] = print
    asked: list[int] = field(default_factory=lambda: [0])

    def __call__(self, job: JobRecord) -> bool:
        """Whether a job is meant."""
        self.asked[0] += 1
        self.say(self.asked[0])
        return all(term.matches(job) for term in self.terms)


@dataclass(frozen=True, slots=True)
class Plan:
    """What would become of jobs."""

    classes: Counter[str]
    """How many of which class are meant."""
    deleted: int | None
    """How many of the dead would be deleted, as the dead set has no place for them; None where no job becomes dead."""

    def as_json(self, order: Order) -> dict[str, Any]:
        """Return it as plain JSON values."""
        rows = {screen.plain(name): n for name, n in self.classes.most_common(listing.MOST)}
        dead = {} if self.deleted is None else {"dead_deleted": self.deleted}
        size = {"jobs": self.classes.total(), "classes": rows, "classes_of": len(self.classes)}
        return {"would": order.verb, **size, **dead}

    def losses(self) -> str:
        """Say which jobs would be lost; empty for none."""
        if not self.deleted:
            return ""
        most = f"it keeps {current_settings().dead_max:,} (dead_max of this shell)"
        return f"the dead set then deletes its oldest {self.deleted:,} jobs for good: {most}"


def act(order: Order, open_store: Callable[[], Store], places: Places) -> None:
    """Plan, ask, act and report.

    Exit code 1 when nothing was done, 3 when nobody is there to confirm, or jobs would be lost and `lose` is not said.
    """
    order.check()
    store = open_store()
    sets = listing.among(base.within(base.ANSWER, lambda: places(store), "Redis"), order.wanted)
    if order.dry_run or not order.yes:
        plan = _plan(order, store, sets)
        if order.dry_run or not plan.classes:
            _leave_planned(order, plan)
        _tell_plan(order, plan)
        what = f"{order.verb} {plan.classes.total():,} jobs of {order.where}"
        base.confirm(what, yes=False)
    elif not order.lose and _overflow(order, store, sum(each.size for each in sets)):
        # All that is there would be too many: only now is it worth it to count what is meant.
        _refuse_losses(order, _plan(order, store, sets))
    _report(order, _done(order, sets))


def _overflow(order: Order, store: Store, jobs: int) -> int:
    """Return how many of the dead are deleted when so many more come; 0 for other verbs."""
    if order.verb != "bury" or not jobs:
        return 0
    return max(DeadSet(store).size + jobs - current_settings().dead_max, 0)


def _refuse_losses(order: Order, plan: Plan) -> None:
    losses = plan.losses()
    if not losses:
        return
    said = f"{losses}. Say fewer jobs, set dead_max, or add --lose"
    if order.as_json:
        click.echo(json.dumps(plan.as_json(order) | {"refused": said}))
    click.echo(f"qik: {said}", err=True)
    sys.exit(UNSAFE)


def _plan(order: Order, store: Store, sets: Sequence[JobSet]) -> Plan:
    classes = _count(order, sets)
    deleted = _overflow(order, store, classes.total()) if order.verb == "bury" else None
    return Plan(classes, deleted)


def _count(order: Order, sets: Sequence[JobSet]) -> Counter[str]:
    """Count by class what is meant."""
    jid = listing.jid_of(order.wanted)
    if jid is not None:
        found = (each.find(jid) for each in sets)
        return Counter(job.display_class for job in found if job is not None)
    total = sum(each.size for each in sets)
    with screen.progress(total) as say:
        wanted = Counting(order.wanted.terms, partial(say, "counted"))
        return Counter(job.display_class for each in sets for job in each if wanted(job))


def _tell_plan(order: Order, plan: Plan) -> None:
    classes = plan.classes
    click.echo(f"{order.verb} {classes.total():,} jobs of {order.where}:", err=True)
    for name, count in classes.most_common(_CLASSES):
        click.echo(f"  {count:>9,} {screen.plain(name or 'no job')}", err=True)
    if len(classes) > _CLASSES:
        click.echo(f"  and of {len(classes) - _CLASSES:,} other classes", err=True)
    if losses := plan.losses():
        click.echo(losses, err=True)


def _leave_planned(order: Order, plan: Plan) -> None:
    if order.as_json:
        click.echo(json.dumps(plan.as_json(order)))
    elif plan.classes:
        _tell_plan(order, plan)
    else:
        click.echo(f"no job of {order.where} is meant", err=True)
    sys.exit(0 if plan.classes else FINDING)


def _done(order: Order, sets: Sequence[JobSet]) -> Tally:
    tally, total = Tally(), sum(each.size for each in sets)
    jid = listing.jid_of(order.wanted)
    try:
        with screen.progress(total) as say:
            wanted = Counting(order.wanted.terms, partial(say, _PAST[order.verb]))
            for each in sets:
                tally.counts.update(_one(order, each, jid) if jid else _all(order, each, wanted))
    except StoreError as error:
        _broken(order, tally, error)
    return tally


def _one(order: Order, place: JobSet, jid: str) -> dict[Act, int]:
    job = place.find(jid)
    if job is None:
        return {}
    acted: Any = methodcaller(order.verb, job)(place)
    return {acted.act: 1}


def _all(order: Order, place: JobSet, wanted: Filter) -> dict[Act, int]:
    tally: Tally = methodcaller(f"{order.verb}_all", wanted)(place)
    return dict(tally)


def _broken(order: Order, tally: Tally, error: StoreError) -> None:
    click.echo(f"qik: {error}", err=True)
    said = f"{tally.done:,} and those of the last place so far were {_PAST[order.verb]}"
    click.echo(f"qik: {said}; what is left can be asked for again, nothing is done twice", err=True)
    sys.exit(NO_REDIS)


def _report(order: Order, tally: Tally) -> None:
    past = _PAST[order.verb]
    if order.as_json:
        counts = {act.value: tally.counts[act] for act in Act}
        click.echo(json.dumps({"verb": order.verb, **counts}))
    else:
        parts = [
            f"{tally.done:,} {past}",
            tally.gone and f"{tally.gone:,} had moved on",
            tally.blocked and f"{tally.blocked:,} stay: another job holds their key",
            tally.no_job and f"{tally.no_job:,} stay: they are no jobs",
        ]
        click.echo(" · ".join(str(part) for part in parts if part))
    if not tally.done:
        sys.exit(FINDING)
