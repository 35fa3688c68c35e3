"""`qik queues`, `scheduled`, `retries`, `dead` and `held`: lists of jobs, one job whole, and verbs on all that a filter means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from qik_core.api import (
    DeadSet,
    HeldList,
    JobSet,
    LaterSet,
    Queue,
    RetrySet,
    ScheduledSet,
    SuspectList,
)
from qik_core.cli import base, completing, listing, verbs
from qik_core.cli.group import Verbs
from qik_core.store import Store

_filter = click.argument(
    "words", metavar="[FILTER]...", nargs=-1, shell_complete=completing.filters
)


@dataclass(frozen=True, slots=True)
class Kind:
    """Jobs that people look at together."""

    name: str
    told: str
    places: Callable[[Store], Sequence[JobSet]]
    verbs: Sequence[str]
    """What may be done to them; each is a method of their sets."""
    when: str
    """What the time of such a job is called."""


def _queues(store: Store) -> Sequence[JobSet]:
    return [*Queue.all(store), *SuspectList.all(store)]


KINDS: Final = (
    Kind(
        "queues",
        "Queues with their sizes; `jobs` lists what is on them.",
        _queues,
        ("delete", "bury"),
        "waits",
    ),
    Kind(
        "scheduled",
        "Jobs that were pushed for later, by the application or by passes.",
        lambda store: [ScheduledSet(store), *LaterSet.all(store)],
        ("advance", "delete", "bury"),
        "due",
    ),
    Kind(
        "retries",
        "Failed jobs that wait for their next try.",
        lambda store: [RetrySet(store)],
        ("retry", "delete", "bury"),
        "due",
    ),
    Kind(
        "dead",
        "Jobs that will not be tried again.",
        lambda store: [DeadSet(store)],
        ("retry", "delete"),
        "died",
    ),
    Kind(
        "held",
        "Jobs whose class or queue is switched off and that no reconciler tells.",
        HeldList.all,
        ("delete",),
        "waits",
    ),
)

_DOES: Final = {
    "advance": "Put the jobs on their queues now, without waiting for their time.",
    "bury": "Make the jobs dead, and free their locks.",
    "delete": "Delete the jobs, and free their locks.",
    "retry": "Put the jobs on their queues now. This try is not counted.",
}
_HOW: Final = """

FILTER as in class:Charge error:TimeoutError args:42 -queue:low: every word must hold. In front of a word that begins with -,
write --. All of them: --all. A plan is shown and confirmed first; --dry-run shows it alone."""


_lose = click.option(
    "--lose",
    is_flag=True,
    help="With --yes: let go of the oldest dead, where they become more than dead_max.",
)


def _patience(usual: float, told: str) -> Callable[[click.decorators.FC], click.decorators.FC]:
    return click.option(
        "--patience",
        type=click.FloatRange(0, 3600),
        default=usual,
        show_default=True,
        metavar="SECONDS",
        help=told,
    )


def _lister(kind: Kind, name: str) -> click.Command:
    @click.command(name, help=f"List them. {kind.told}" if name == "list" else "List their jobs.")
    @_filter
    @click.option(
        "--limit",
        type=click.IntRange(1, listing.MOST),
        default=listing.USUAL,
        show_default=True,
        help="Show so many at most.",
    )
    @_patience(
        listing.PATIENCE, "Search so long for what FILTER means; for a jid alone 2 s at least."
    )
    @base.redis_url
    @base.as_json
    def lister(
        words: Sequence[str], limit: int, patience: float, redis_url: str | None, *, as_json: bool
    ) -> None:
        store, wanted = base.store(redis_url), listing.filter_of(words)
        found = base.within(
            base.ANSWER + max(patience - listing.PATIENCE, 0.0),
            lambda: listing.look(
                store, listing.among(kind.places(store), wanted), wanted, limit, patience
            ),
            "Redis",
        )
        listing.show_found(found, kind.when, as_json=as_json)

    return lister


def _shower(kind: Kind) -> click.Command:
    @click.command("show", help="Show one job whole: arguments, times, error and backtrace.")
    @click.argument("jid")
    @_patience(listing.SEARCH, "Search so long.")
    @base.redis_url
    @base.as_json
    def shower(jid: str, patience: float, redis_url: str | None, *, as_json: bool) -> None:
        store = base.store(redis_url)
        found = base.within(
            base.ANSWER + max(patience - listing.SEARCH, 0.0),
            lambda: listing.find(kind.places(store), jid, 1, patience),
            "Redis",
        )
        listing.show_one(found, jid, kind.name, as_json=as_json)

    return shower


def _verb(kind: Kind, verb: str) -> click.Command:
    @click.command(verb, help=_DOES[verb] + _HOW, short_help=_DOES[verb])
    @_filter
    @click.option("--all", "everything", is_flag=True, help="All of them.")
    @click.option("--dry-run", is_flag=True, help="Say how many jobs are meant; change nothing.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @base.redis_url
    @base.as_json
    def act(words: Sequence[str], redis_url: str | None, **options: Any) -> None:
        order = verbs.Order(verb, listing.filter_of(words), kind.name, **options)
        verbs.act(order, lambda: base.store(redis_url), kind.places)

    return _lose(act) if verb == "bury" else act


def _group(kind: Kind, lists: str = "list") -> Verbs:
    made = Verbs(kind.name, help=kind.told, searching=lists)
    made.add_command(_lister(kind, lists))
    made.add_command(_shower(kind))
    for verb in kind.verbs:
        made.add_command(_verb(kind, verb))
    return made


@click.command("list")
@click.option("--by", type=click.Choice(["class"]), help="How many jobs of which class wait where.")
@click.option("--bytes", "weigh", is_flag=True, help="Also how much memory each queue takes.")
@base.redis_url
@base.as_json
def _list_queues(by: str | None, redis_url: str | None, *, weigh: bool, as_json: bool) -> None:
    """List the queues: sizes, latency, which are paused."""
    store = base.store(redis_url)
    if by is not None:
        listing.show_classes(store, as_json=as_json)
    else:
        listing.show_queues(store, weigh=weigh, as_json=as_json)


queues = _group(KINDS[0], "jobs")
queues.add_command(_list_queues)
scheduled, retries, dead, held = map(_group, KINDS[1:])
