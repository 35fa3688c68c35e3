"""One state of the model: what Redis holds for one unique key, and what two processes believe.

Everything is a tuple of small values, so that states can be compared, hashed and counted by the hundred thousand.
Jobs and identities are numbers; two states that differ only in the numbers are the same state (`canonical`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

NOBODY: Final = -1
"""No job, no identity."""

# The states of a lock, as the record in Redis spells them.
QUEUED: Final = "q"
SCHEDULED: Final = "s"
RUNS: Final = "r"
RETRYING: Final = "t"


class Lock(NamedTuple):
    """The record of the key in one generation."""

    state: str
    jid: int
    dirty: bool = False
    holder: int = NOBODY
    """The identity of who runs it, in state r."""
    expired: bool = False
    """Its window has passed."""


class Entry(NamedTuple):
    """One field of a working hash."""

    jid: int
    answered: bool
    """Whether the exchange that fetched it was answered. The process knows that; Redis does not."""
    barred: bool = False
    """A verdict `superseded` came before the answer: not to be started."""
    named: str = ""
    """How the assertion under way names it: - held, s its outcome is under way; empty: not at all."""


# What `#` of a working hash says, relative to the exchange that its process sends next.
ANSWERED: Final = "answered"  # the next number is due
APPLIED: Final = (
    "applied"  # the number of the exchange that is unanswered: sent again, it changes nothing
)
FENCED: Final = "fenced"
GONE: Final = "gone"  # there is no such hash


class Working(NamedTuple):
    """The working hash of a process."""

    mark: str = ANSWERED
    entries: tuple[Entry, ...] = ()
    beaten: bool = True
    """Its locks were renewed in the present generation (field `@`)."""
    asserted: bool = True
    """It has said what it holds since the last loss."""
    alive: bool = True
    """It is in `qik:alive`."""
    heard: bool = True
    """Its last beat, which said what it holds, was in the present generation."""


class Store(NamedTuple):
    """What Redis holds."""

    lock: Lock | None = None
    """The record in the present generation."""
    old: Lock | None = None
    """The record in the generation that a roll is leaving."""
    walk: int = 0
    """0 without a roll; else 1 + how many of its sources have been walked."""
    headless: bool = False
    """Somebody deleted a hash of locks, and no script has read it since."""
    queue: tuple[int, ...] = ()
    """The list: pushes arrive at the front, the next to be fetched is last."""
    later: tuple[int, ...] = ()
    """`schedule` and `qik:later:<queue>`."""
    retry: tuple[int, ...] = ()
    recovering: tuple[tuple[int, int], ...] = ()
    """Jobs of fenced processes: jid, identity."""
    trash: tuple[int, ...] = ()
    working: tuple[Working, ...] = (Working(), Working())


# How long a process has stood still.
AWAKE: Final = 0
FROZEN: Final = 1
CONVICTABLE: Final = 2  # longer than L - 2 H: others may convict it
UNRENEWED: Final = 3  # longer than 3 L: its running locks may expire
DEAD: Final = 4

# What a process does with the job in its one slot.
FREE: Final = "free"
FETCHED: Final = "fetched"
RUNNING: Final = "running"
OK: Final = "ok"
FAILED: Final = "failed"

# Its exchange.
QUIET: Final = "quiet"  # none outstanding
REPLY: Final = "reply"  # applied, the answer on its way
UNANSWERED: Final = "unanswered"  # the answer was lost; it will be sent again

# Whether it was told that another run holds the key.
NO: Final = 0
WHILE_LATE: Final = 1
ON_TIME: Final = 2


class Process(NamedTuple):
    """What a process believes."""

    identity: int
    power: int = AWAKE
    late: int = 0
    """How long it had stood still when it thawed, until its next beat is acknowledged."""
    job: int = NOBODY
    phase: str = FREE
    superseded: int = NO
    sent: str = QUIET
    reply: int = NOBODY
    """The job in the answer that is on its way."""
    beating: bool = False
    """It has been told what it holds, and has not asserted that yet."""


class Budget(NamedTuple):
    """How often each fault may still happen."""

    edges: int = 0
    flushes: int = 0
    rebuilds: int = 0
    """Runs of the flush procedure, which is not one step."""
    queue_deletions: int = 0
    lock_deletions: int = 0
    working_deletions: int = 0
    freezes: int = 0
    crashes: int = 0
    lost_replies: int = 0
    failures: int = 0
    expiries: int = 0
    rolls: int = 0
    """Rolls without need; one that is needed is free."""
    roll_deaths: int = 0
    returns: int = 0
    """Jobs handed back before they start."""
    slow_beats: int = 0
    """Beats whose two scripts, beat and assert, do not follow each other at once."""


class Producer(NamedTuple):
    """An application whose push was not answered."""

    jid: int
    known: bool
    """`qik:sent:<jid>` is still there."""


class World(NamedTuple):
    """One state."""

    store: Store
    processes: tuple[Process, ...]
    budget: Budget
    pending: bool = True
    """The row in SQL wants a job."""
    unserved: bool = False
    """An edge was told that a job stands for it, and no run has started since."""
    producer: Producer | None = None
    rebuild: int = 0
    """The step of the flush procedure that comes next; 0: none is under way."""


def first(budget: Budget) -> World:
    """Return the state in which everything begins: a pending row, an empty Redis, two idle processes."""
    return World(Store(), (Process(0), Process(1)), budget)


def copies(store: Store, processes: Sequence[Process]) -> int:
    """Count the jobs of the key that have not ended, wherever Redis holds them."""
    held = sum(len(working.entries) for working in store.working)
    ended = sum(
        process.phase == OK or (process.phase == FAILED and process.sent == UNANSWERED)
        for process, working in zip(processes, store.working, strict=True)
        if any(entry.jid == process.job and entry.answered for entry in working.entries)
    )
    elsewhere = len(store.queue) + len(store.later) + len(store.retry) + len(store.recovering)
    return elsewhere + held - ended


def jids(world: World) -> Iterator[int]:
    """Yield every job's number in the state, each at least once, in an order that does not depend on the numbers."""
    store = world.store
    for lock in (store.lock, store.old):
        if lock:
            yield lock.jid
    yield from store.queue
    for process, working in zip(world.processes, store.working, strict=True):
        yield process.job
        yield process.reply
        for entry in working.entries:
            yield entry.jid
    for jid, _ in store.recovering:
        yield jid
    if world.producer:
        yield world.producer.jid
    yield from store.later
    yield from store.retry
    yield from store.trash


def fresh_jid(world: World) -> int:
    """Return a number that no job has."""
    return max(jids(world), default=NOBODY) + 1


def identities(world: World) -> Iterator[int]:
    """Yield every identity in the state, the living first."""
    for process in world.processes:
        yield process.identity
    for lock in (world.store.lock, world.store.old):
        if lock and lock.holder != NOBODY:
            yield lock.holder
    for _, identity in world.store.recovering:
        yield identity


def fresh_identity(world: World) -> int:
    """Return a number that no process ever had, as far as anything remembers."""
    return max(identities(world)) + 1


class Naming(NamedTuple):
    """How the numbers of one state become those of another."""

    swapped: bool
    """Whether the two processes change places."""
    job: dict[int, int]
    who: dict[int, int]


def canonical(world: World) -> World:
    """Return the one state that stands for (nearly) all which differ from this one in nothing but numbers."""
    return renamed(world, naming(world))


def naming(world: World) -> Naming:
    """Return how `canonical` renames: the processes are alike, so the one that compares smaller comes first."""
    one, two = map(_shape, world.processes, world.store.working)
    swapped = two < one
    if swapped:
        world = _swapped(world)
    return Naming(swapped, _numbers(jids(world)), _numbers(identities(world)))


def renamed(world: World, names: Naming) -> World:
    """Return the same state with other numbers."""
    world = _swapped(world) if names.swapped else world
    store, job, who = world.store, names.job, names.who
    working = tuple([
        w if not w.entries else w._replace(entries=tuple([e._replace(jid=job[e.jid]) for e in w.entries]))
        for w in store.working
    ])  # fmt: skip
    return World(
        Store(
            _renamed(store.lock, job, who),
            _renamed(store.old, job, who),
            store.walk,
            store.headless,
            tuple([job[jid] for jid in store.queue]),
            tuple(sorted([job[jid] for jid in store.later])),
            tuple(sorted([job[jid] for jid in store.retry])),
            tuple([(job[jid], who[identity]) for jid, identity in store.recovering]),
            tuple(sorted([job[jid] for jid in store.trash])),
            working,
        ),
        tuple([
            Process(
                who[p.identity], p.power, p.late, job[p.job], p.phase, p.superseded, p.sent, job[p.reply], p.beating
            )
            for p in world.processes
        ]),
        world.budget,
        world.pending,
        world.unserved,
        world.producer and Producer(job[world.producer.jid], world.producer.known),
        world.rebuild,
    )  # fmt: skip


def _swapped(world: World) -> World:
    store = world.store._replace(working=world.store.working[::-1])
    return world._replace(processes=world.processes[::-1], store=store)


def _shape(p: Process, w: Working) -> tuple[object, ...]:
    believes = (p.power, p.late, p.phase, p.superseded, p.sent, p.reply < 0, p.beating)
    return believes, w.mark, len(w.entries), w.beaten, w.asserted, w.alive, w.heard


def _numbers(found: Iterator[int]) -> dict[int, int]:
    numbers = {NOBODY: NOBODY}
    for number in found:
        if number not in numbers:
            numbers[number] = len(numbers) - 1
    return numbers


def _renamed(lock: Lock | None, job: dict[int, int], who: dict[int, int]) -> Lock | None:
    return lock and Lock(lock.state, job[lock.jid], lock.dirty, who[lock.holder], lock.expired)
