"""Every key: its name, its type, what it holds. No other module writes a key's name.

Sidekiq's own keys are unprefixed, ours begin with `qik:`. Names that users give (queues) are checked here and
always stand behind a type prefix, so that a queue called `retry` cannot collide with the retry set.
"""

from __future__ import annotations

import hashlib
import re
import time
from typing import Final

from qik_core.errors import DefinitionError

# --- Sidekiq's ---------------------------------------------------------------
QUEUES: Final = b"queues"  # set: names of all queues ever pushed to
SCHEDULE: Final = b"schedule"  # zset: jobs, score = due time in epoch seconds
RETRY: Final = b"retry"  # zset: failed jobs, score = next try
DEAD: Final = b"dead"  # zset: dead jobs, score = time of death
PROCESSES: Final = b"processes"  # set: identities, for Sidekiq's Web and API

# --- ours --------------------------------------------------------------------
EPOCH: Final = b"qik:epoch"  # string: <loss id> <generation> <previous or -> <birth ms>
UNIQUE: Final = (
    b"qik:unique:"  # + generation, hash: digest -> lock record; field # = made by a script
)
ALIVE: Final = b"qik:alive"  # zset: identities, score = last beat by the server's clock
ENDED: Final = b"qik:ended"  # list: records of deaths, crashes, no-progress, for the reconciler
ENDED_READ: Final = b"qik:ended:read"  # string with TTL: somebody reads that list
ORPHANS: Final = b"qik:orphans"  # zset: generations, score = until when; + : + generation, hash: locks without a job
ROLLER: Final = b"qik:roller"  # string with TTL: who walks now
ROLL: Final = b"qik:roll"  # string with TTL: somebody asks for a roll
COUNTS: Final = b"qik:counts"  # hash: superseded, malformed, edge_lost …: totals, for people
NEVER: Final = b"qik:never"  # never exists; DEL of it lets a script write at maxmemory
SUSPECTS: Final = b"qik:suspects"  # set: names of queues that have suspects
CANCELLED: Final = (
    b"qik:cancelled"  # zset: jids that must not run or go on running, score = until when
)
ALONE: Final = b"qik:alone"  # string with TTL: who may run suspects now, each alone in its process
HELD: Final = b"qik:held"  # hash: job class -> bytes of its held jobs; that a class is in it says that it has some
SWITCHES: Final = (
    b"qik:switches"  # string: the kill switches as reconcilers know them, JSON of at most 1 MB
)
SWITCHED: Final = b"qik:switched"  # hash: flag -> jobs dropped or refused because of it
WITNESS: Final = (
    b"qik:witness"  # hash: process of reconcilers -> the ms it left last; :old, those of long ago
)
PAUSED: Final = b"paused"  # set: names of paused queues (Sidekiq Pro's key)
ASIDE: Final = (
    b"qik:aside"  # set: lists that a flush has put aside; one that stays is of a flush that died
)
FLUSHER: Final = b"qik:flusher"  # string with TTL: whose turn it is to flush
TRASH_PREFIX: Final = b"qik:trash:"  # + flush : key, list: what a flush has put aside of that list
RECOVERING_PREFIX: Final = b"qik:recovering:"
RELEASED_PREFIX: Final = (
    b"qik:released:"  # + class, string with TTL: some of its held jobs were released just now
)
WORKING_PREFIX: Final = b"qik:working:"

_QUEUE = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_HOLDER: Final = 6


def is_queue(name: object) -> bool:
    """Whether this can be a queue's name."""
    return type(name) is str and _QUEUE.fullmatch(name) is not None


def check_queue(name: object) -> str:
    """Return a queue's name if it can be one.

    Raises:
        DefinitionError: not a string of 1 to 128 characters among A-Z a-z 0-9 _ . : -
    """
    if type(name) is not str or not is_queue(name):
        raise DefinitionError(
            f"queue {name!r:.80} cannot be a name: use 1 to 128 of A-Z a-z 0-9 _ . : -"
        )
    return name


def queue(name: str) -> bytes:
    """List: jobs of one queue, newest at the head."""
    return b"queue:" + name.encode()


def suspect(name: str) -> bytes:
    """List: jobs of one queue under which a process has died; each runs alone in its process."""
    return b"qik:suspect:" + name.encode()


def held(name: str) -> bytes:
    """List: jobs of one class that were found on queues while it was switched off; the tail is released first."""
    return HELD + b":" + name.encode()


def held_pushed(name: str) -> bytes:
    """List: jobs of one class that were pushed while it was switched off; released behind those of `held`."""
    return held(name) + b"+"


def later(name: str) -> bytes:
    """Zset: jittered jobs of passes for one queue. Ruby never sees them."""
    return b"qik:later:" + name.encode()


def working(identity: str) -> bytes:
    """Hash: jobs that one process fetched and has not settled. Fields <seq>.<n>, and # = <seq>:<count> or `fenced`."""
    return WORKING_PREFIX + identity.encode()


def recovering(identity: str) -> bytes:
    """Hash: the working hash of a fenced process, while its jobs go back."""
    return RECOVERING_PREFIX + identity.encode()


def process(identity: str) -> bytes:
    """Hash: Sidekiq's heartbeat of one process."""
    return identity.encode()


def work(identity: str) -> bytes:
    """Hash: what the threads of one process run, for Sidekiq's Web."""
    return identity.encode() + b":work"


def signals(identity: str) -> bytes:
    """List: TSTP, TERM, TTIN from Sidekiq's Web and API."""
    return identity.encode() + b"-signals"


def sent(jid: str) -> bytes:
    """String with a TTL of 30 s: the codes of one push, so that sending it again changes nothing."""
    return b"qik:sent:" + jid.encode()


def idle(name: str) -> bytes:
    """Set: identities that found nothing on one queue and sleep."""
    return b"qik:idle:" + name.encode()


def wake(identity: str) -> bytes:
    """List: wake-up tokens for one process."""
    return b"qik:wake:" + identity.encode()


def counted(key: bytes) -> bytes:
    """String: how many of our jobs a list or zset should hold; more than it has proves a deletion by hand."""
    return b"qik:n:" + key


def trash(flush: str, key: bytes) -> bytes:
    """List: the jobs of one list while a flush decides about them; what must live goes back."""
    return TRASH_PREFIX + flush.encode() + b":" + key


def restored(export: str) -> bytes:
    """Set with a TTL of 30 days: the jids of one export that were put back."""
    return b"qik:restored:" + export.encode()


def flushed(export: str) -> bytes:
    """Set with a TTL of 30 days: the jids that the last step of a flush removed which keeps a file, and `#`."""
    return b"qik:flushed:" + export.encode()


def stat(name: str, day: str = "") -> bytes:
    """String: Sidekiq's totals, `processed` and `failed`, overall or of one UTC day."""
    return b"stat:" + name.encode() + (b":" + day.encode() if day else b"")


def minute(at: float, *, eight: bool) -> bytes:
    """Hash with a TTL of 8 h: `<class>|p`, `|f`, `|ms` of this minute of UTC, named as Sidekiq 8 or 7 does."""
    each = time.gmtime(at)
    if eight:
        return b"j|%s|%d:%02d" % (_day(each)[2:], each.tm_hour, each.tm_min)
    return b"j|%s|%d:%d" % (_day(each), each.tm_hour, each.tm_min)


def ten_minutes(at: float) -> bytes:
    """Hash with a TTL of 3 days: the same of ten minutes. Sidekiq 8 has it."""
    each = time.gmtime(at)
    return b"j|%s|%d:%d" % (_day(each)[2:], each.tm_hour, each.tm_min // 10)


def histogram(name: str, at: float, *, eight: bool) -> bytes:
    """String with a TTL of 8 h: 26 counters of 16 bits, how many runs of a class took how long in this minute."""
    each, text = time.gmtime(at), name.encode()
    if eight:
        return b"h|%s-%d-%d:%d" % (text, each.tm_mday, each.tm_hour, each.tm_min)
    return b"%s-%02d-%02d:%d" % (text, each.tm_mday, each.tm_hour, each.tm_min)


def marks(at: float) -> bytes:
    """Hash with a TTL of 90 days: deploys of this day of UTC, minute -> label."""
    return _day(time.gmtime(at)) + b"-marks"


def marking(label: str) -> bytes:
    """String with a TTL of 60 s: this label was marked just now."""
    return b"deploylock-" + label.encode()


def _day(each: time.struct_time) -> bytes:
    return b"%04d%02d%02d" % each[:3]


def holder(identity: str) -> bytes:
    """Return the 6 characters that stand for an identity in a running lock."""
    return hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()[:_HOLDER].encode()


IN_LUA: Final = {
    "alive": ALIVE,
    "alone": ALONE,
    "aside": ASIDE,
    "cancelled": CANCELLED,
    "counts": COUNTS,
    "dead": DEAD,
    "ended": ENDED,
    "ended_read": ENDED_READ,
    "epoch": EPOCH,
    "flusher": FLUSHER,
    "held": held(""),
    "helds": HELD,
    "idle": idle(""),
    "later": later(""),
    "n": counted(b""),
    "never": NEVER,
    "orphans": ORPHANS,
    "paused": PAUSED,
    "processes": PROCESSES,
    "queue": queue(""),
    "queues": QUEUES,
    "recovering": RECOVERING_PREFIX,
    "released": RELEASED_PREFIX,
    "retry": RETRY,
    "roll": ROLL,
    "roller": ROLLER,
    "schedule": SCHEDULE,
    "stat": stat(""),
    "suspect": suspect(""),
    "suspects": SUSPECTS,
    "switched": SWITCHED,
    "switches": SWITCHES,
    "unique": UNIQUE,
    "wake": wake(""),
    "working": WORKING_PREFIX,
}
"""The names and prefixes that scripts write as `K.<name>`."""
