"""What is wrong with a Redis, with the settings against it, and with who shares it: facts in, findings out.

`examine` is pure. The closed set of findings is `Check`; docs/reference/doctor.md explains each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from qik_core.errors import SettingsError
from qik_core.findings import Severity
from qik_core.settings import Settings
from qik_core.store.inspection import Facts, Server, read_server
from qik_core.store.link import Link
from qik_core.urls import mask

log: Final = logging.getLogger("qik_core.worker")

FLOOR: Final = {"redis": (6, 2, 0), "valkey": (7, 2, 0)}
SKEW: Final = (
    1.0  # seconds that a host may be wrong: delays are counted by the server, moments are not
)
SLOW: Final = 0.05  # seconds of one round trip, as Sidekiq warns
NEARLY_FULL: Final = 0.8
LINKS: Final = 4
"""Connections of one worker process beside one for each of its job threads: courier, heartbeat, poller, roller."""
LOST_PER_DEATH: Final = 1
"""How many due jobs the death of a Ruby process may lose: its poller holds one at a time."""


class Check(StrEnum):
    """Everything that can be found."""

    TOO_OLD = "too-old"
    EVICTION = "eviction"
    CLUSTER = "cluster"
    REPLICA = "replica"
    PERSISTENCE = "persistence"
    SAVING_FAILS = "saving-fails"
    NEARLY_FULL = "nearly-full"
    CONNECTIONS = "connections"
    CLOCK = "clock"
    SLOW = "slow"
    SCRIPTS = "scripts"
    DENIED = "denied"
    WRONG_TYPE = "wrong-type"
    RUBY = "ruby"
    RUBY_QUEUE = "ruby-queue"
    UNSERVED = "unserved"
    SILENT = "silent"
    PAUSED = "paused"
    HELD = "held"
    ASIDE = "aside"
    COUNTED = "counted"
    APP = "app"
    NO_JOBS = "no-jobs"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: what it is, and what to do."""

    check: Check
    severity: Severity
    what: str
    remedy: str


Rule = Callable[[Facts, Settings], Iterator[Finding]]


def examine(facts: Facts, settings: Settings) -> list[Finding]:
    """Return everything that is wrong, errors first."""
    found = [each for rule in _RULES for each in rule(facts, settings)]
    return sorted(found, key=lambda each: each.severity.rank)


def check_boot(settings: Settings) -> None:
    """Refuse to work on a server that would lose jobs or cannot run the scripts; warn of what is only risky.

    Raises:
        SettingsError: the server is too old, a cluster, or may evict keys and `allow_eviction` is off.
        StoreError: it cannot be asked now.
    """
    link = Link(settings.redis)
    try:
        server = read_server(link)
    finally:
        link.close()
    for finding in _of_server(server, settings):
        if finding.severity is Severity.ERROR and finding.check in _REFUSED_AT_BOOT:
            where = mask(settings.redis)
            raise SettingsError(f"Redis at {where}: {finding.what}. {finding.remedy}")
        log.warning("%s", finding.what, extra={"check": finding.check, "remedy": finding.remedy})


# --- the server ----------------------------------------------------------------------------------

_REFUSED_AT_BOOT: Final = {Check.TOO_OLD, Check.CLUSTER, Check.EVICTION}


def _of_server(server: Server, settings: Settings) -> Iterator[Finding]:
    yield from _version(server)
    yield from _eviction(server, settings)
    yield from _topology(server)
    yield from _persistence(server)
    yield from _denied(server)


def _version(server: Server) -> Iterator[Finding]:
    floor = FLOOR[server.kind]
    if any(server.version) and server.version < floor:
        yield Finding(
            Check.TOO_OLD,
            Severity.ERROR,
            f"{server.kind} {_dotted(server.version)} is too old",
            f"Upgrade to {server.kind} {floor[0]}.{floor[1]} or later",
        )


def _eviction(server: Server, settings: Settings) -> Iterator[Finding]:
    if server.policy in (None, "noeviction"):
        return
    severity = Severity.WARNING if settings.allow_eviction else Severity.ERROR
    yield Finding(
        Check.EVICTION,
        severity,
        f"maxmemory-policy is {server.policy}: a full server would drop jobs and locks without a word",
        "Set `maxmemory-policy noeviction`, or allow_eviction = true to work all the same",
    )


def _topology(server: Server) -> Iterator[Finding]:
    if server.cluster:
        yield Finding(
            Check.CLUSTER,
            Severity.ERROR,
            "the server is a node of a cluster, and the scripts use keys of several slots",
            "Use a server on its own, with replicas if you like",
        )
    if server.replica:
        yield Finding(
            Check.REPLICA,
            Severity.ERROR,
            "the server is a replica and takes no writes",
            "Name the primary in the setting redis; after a failover, the new one",
        )


def _persistence(server: Server) -> Iterator[Finding]:
    if server.save == "" and not server.append_only:
        yield Finding(
            Check.PERSISTENCE,
            Severity.WARNING,
            "the server keeps nothing on disk: a restart loses every job that no reconciler tells again",
            "Set `appendonly yes`, or `save 60 1`",
        )
    if server.failing:
        yield Finding(
            Check.SAVING_FAILS,
            Severity.ERROR,
            f"saving to disk failed the last time ({', '.join(server.failing)}); the server may refuse writes",
            "See the server's log; often the disk is full",
        )


def _denied(server: Server) -> Iterator[Finding]:
    unseen = server.policy is None or server.save is None
    if server.denied and unseen:
        yield Finding(
            Check.DENIED,
            Severity.WARNING,
            f"this user may not ask {' nor '.join(server.denied)}: eviction and persistence were not all examined",
            "Allow +info and +config|get, or examine them yourself: noeviction, and appendonly or save",
        )


def _server(facts: Facts, settings: Settings) -> Iterator[Finding]:
    yield from _of_server(facts.server, settings)


def _memory(facts: Facts, _: Settings) -> Iterator[Finding]:
    used, most = facts.server.used_memory, facts.server.maxmemory
    if most and used > NEARLY_FULL * most:
        yield Finding(
            Check.NEARLY_FULL,
            Severity.WARNING,
            f"{used / most:.0%} of maxmemory is used; when it is full, pushes are refused",
            "Let workers drain the queues, or raise maxmemory",
        )


def _connections(facts: Facts, settings: Settings) -> Iterator[Finding]:
    most = facts.server.maxclients
    needed = settings.processes * (LINKS + settings.slots)
    if most is not None and facts.server.clients + needed > most:
        yield Finding(
            Check.CONNECTIONS,
            Severity.WARNING,
            f"maxclients is {most} and {facts.server.clients} are connected; one `qik work` as set may need {needed}",
            "Raise maxclients, or lower processes and concurrency",
        )


def _clock(facts: Facts, _: Settings) -> Iterator[Finding]:
    if abs(facts.skew) > SKEW:
        side = "ahead of" if facts.skew > 0 else "behind"
        yield Finding(
            Check.CLOCK,
            Severity.WARNING,
            f"this host's clock is {abs(facts.skew):.1f} s {side} the server's: perform_at is off by as much",
            "Let NTP set both clocks",
        )


def _speed(facts: Facts, _: Settings) -> Iterator[Finding]:
    if facts.round_trip > SLOW:
        yield Finding(
            Check.SLOW,
            Severity.WARNING,
            f"a round trip takes {facts.round_trip * 1000:.0f} ms",
            "Bring workers nearer to the server; look for slow commands with SLOWLOG GET",
        )
    if facts.script:
        yield Finding(
            Check.SCRIPTS,
            Severity.ERROR,
            f"scripts do not run: {facts.script}",
            "Allow this user +@scripting and all commands on qik:* and on Sidekiq's keys",
        )


def _types(facts: Facts, _: Settings) -> Iterator[Finding]:
    lists = {f"queue:{name}": "no list" for name, size in facts.queues.items() if size < 0}
    lists |= {f"qik:held:{each.name}": "no list" for each in facts.held if each.jobs < 0}
    for key, found in {**facts.wrong, **lists}.items():
        yield Finding(
            Check.WRONG_TYPE,
            Severity.ERROR,
            f"the key {key} is {found}: another program writes to this database",
            f"Look at it, then DEL or RENAME {key}; give each application a database of its own",
        )


# --- who works here ------------------------------------------------------------------------------


def _ruby(facts: Facts, settings: Settings) -> Iterator[Finding]:
    theirs = [worker for worker in facts.workers if not worker.ours]
    if not theirs:
        return
    names = ", ".join(worker.identity for worker in theirs[:3])
    yield Finding(
        Check.RUBY,
        Severity.WARNING,
        f"{len(theirs)} Ruby Sidekiq processes work on this database ({names}): their pollers take due jobs out of "
        f"schedule and retry, ours too, before they push them; each death of one may lose {LOST_PER_DEATH} of them",
        "Give Ruby a database of its own, or accept the loss for jobs that no reconciler tells again",
    )
    shared = sorted(settings.served & {name for worker in theirs for name in worker.queues})
    if shared:
        yield Finding(
            Check.RUBY_QUEUE,
            Severity.ERROR,
            f"Ruby processes fetch from queues that are ours by the settings: {', '.join(shared)}",
            "Give each language queues of its own: a job whose class the other does not know is retried, then dead",
        )


def _served(facts: Facts, settings: Settings) -> Iterator[Finding]:
    served = {name for worker in facts.workers for name in worker.queues}
    waiting = {
        name: sum(max(sizes.get(name, 0), 0) for sizes in (facts.queues, facts.later))
        for name in sorted({*facts.queues, *facts.later})
    }
    left = [f"{name} ({n:,})" for name, n in waiting.items() if n and name not in served]
    if left:
        yield Finding(
            Check.UNSERVED,
            Severity.WARNING,
            f"jobs wait on queues that no process serves: {', '.join(left[:10])}",
            "Start `qik work -q NAME`, or delete the queues",
        )
    silent = [
        worker.identity
        for worker in facts.workers
        if worker.ours and facts.now - worker.beat > settings.lease
    ]
    if silent:
        yield Finding(
            Check.SILENT,
            Severity.WARNING,
            f"silent for longer than a lease, and not recovered yet: {', '.join(silent[:5])}",
            "Start a worker: it recovers their jobs within a lease",
        )


def _paused(facts: Facts, _: Settings) -> Iterator[Finding]:
    if facts.paused:
        yield Finding(
            Check.PAUSED,
            Severity.NOTE,
            f"paused: {', '.join(facts.paused[:10])}",
            "`qik resume NAME` when their jobs shall run again",
        )


def _held(facts: Facts, _: Settings) -> Iterator[Finding]:
    if facts.held:
        jobs = ", ".join(f"{each.name} ({max(each.jobs, 0):,})" for each in facts.held[:10])
        yield Finding(
            Check.HELD,
            Severity.NOTE,
            f"held, because their class or their queue is switched off: {jobs}",
            "They come back by themselves, in their order, when the switch is off: `reconciler switches` names it",
        )


def _aside(facts: Facts, _: Settings) -> Iterator[Finding]:
    if facts.aside:
        yield Finding(
            Check.ASIDE,
            Severity.WARNING,
            f"{facts.aside:,} jobs are aside: a flush is under way, or has died, and nobody runs them",
            "If it has died: run it again, which goes on, or `reconciler flush --put-back --reason …`, which lets them go back",
        )


def _counted(facts: Facts, _: Settings) -> Iterator[Finding]:
    totals = ", ".join(f"{name} {total:,}" for name, total in sorted(facts.counts.items()) if total)
    if totals:
        yield Finding(
            Check.COUNTED,
            Severity.NOTE,
            f"refused or dropped since counting began: {totals}",
            "The log of the workers names each with its jid",
        )


_RULES: Final[tuple[Rule, ...]] = (
    _server, _memory, _connections, _clock, _speed, _types, _ruby, _served, _paused, _held, _aside,
    _counted,
)  # fmt: skip


# --- the application -----------------------------------------------------------------------------


def app_broken(why: str) -> Finding:
    """Return the finding of an application that cannot be imported, twice defined names included."""
    return Finding(Check.APP, Severity.ERROR, why, "Correct it: no worker starts without it")


def no_jobs(app: str) -> Finding:
    """Return the finding of an application that defines nothing to run."""
    return Finding(
        Check.NO_JOBS,
        Severity.WARNING,
        f"{app} defines no job: whatever is queued would wait for a class in vain",
        "Name the module that defines or imports your jobs",
    )


def unserved(facts: Facts, named: str) -> Finding:
    """Return the finding of an application with queues that neither the settings name nor any process serves."""
    return Finding(
        Check.UNSERVED,
        Severity.WARNING if facts.workers else Severity.NOTE,
        f"queues of the application that no process serves, nor one with these settings: {named}",
        "Start `qik work -q NAME`, or name them in the setting queues",
    )


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
