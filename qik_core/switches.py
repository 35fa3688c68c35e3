"""Kill switches: the names of their flags, their rules, and a snapshot of all rules that answers without any I/O. Pure.

A flag that is in no snapshot means *run*. A rule stops what it fits; any rule of a class, its queue or its reconciler is enough.
A rule asks for nothing that is not known where it is asked: a rule on tenants stops nothing where no tenant is known, and a
percentage stops a share of the keys where there is a key, and nobody else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from qik_core.errors import BadSnapshot

LARGEST: Final = 1_000_000
"""Bytes of a snapshot at the most."""
_HEAD: Final = re.compile(rb'\{"version":(\d{1,16}),"known":(true|false),', re.ASCII)
_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_OTHER: Final = re.compile(r"[^a-z0-9_]+")
_ALL: Final = 100.0
_NAMES_KEPT: Final = 10_000  # of classes and queues; payloads may name any


def _snake(name: str) -> str:
    return _OTHER.sub("_", _WORDS.sub("_", name).lower())


def flag_of_class(name: str) -> str:
    """Return the flag of a job class: `Billing::ChargeJob` → `disable_billing_charge_job`."""
    return f"disable_{_snake(name)}"


def flag_of_queue(name: str) -> str:
    """Return the flag of a queue: its name as it is, but `_` for `:`, which Unleash does not take."""
    return f"disable_queue_{name.replace(':', '_')}"


def flag_of_reconciler(name: str) -> str:
    """Return the flag of a reconciler: `OpenInvoices` → `disable_reconciler_open_invoices`."""
    return f"disable_reconciler_{_snake(name)}"


def key_text(args: object) -> str:
    """Return the key of a job as conditions name it: its only unique argument as it is, several as a JSON list.

    `args` are unique arguments as they travel.
    """
    only = args[0] if isinstance(args, (list, tuple)) and len(args) == 1 else args
    return only if isinstance(only, str) else msgspec.json.encode(only).decode()


class Field(StrEnum):
    """What a condition may ask of."""

    CLASS = "class"
    QUEUE = "queue"
    TENANT = "tenant"
    KEY = "key"
    RECONCILER = "reconciler"


class Operator(StrEnum):
    """How a condition compares."""

    IN = "in"
    NOT_IN = "not_in"


class OnUnknown(StrEnum):
    """What a class does while its switches are configured and no good snapshot was ever seen."""

    RUN = "run"
    STOP = "stop"


class Stop(NamedTuple):
    """Why something must not run now."""

    flag: str
    reason: str
    source: str
    cancel: bool = False
    """Runs are asked to stop, too."""


class Context(NamedTuple):
    """What is known of a job beside its class and queue; None: not known here."""

    tenant: str | None = None
    key: str | None = None
    """See `key_text`."""
    reconciler: str | None = None


NO_CONTEXT: Final = Context()


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that must hold for a rule to stop."""

    field: Field
    operator: Operator
    values: tuple[str, ...]

    def holds(self, value: str | None) -> bool:
        """Whether it holds for this value; a value that is not known fits no condition."""
        return value is not None and (value in self.values) is (self.operator is Operator.IN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Whom a flag stops, who said so, and until when."""

    percent: float = 100.0
    """How many of the keys are stopped: the same ones each time, and as it falls none that ran is stopped again."""
    where: tuple[Condition, ...] = ()
    """All of them must hold."""
    source: str = ""
    """`sql`, `file`, `unleash`, …"""
    who: str = ""
    reason: str = ""
    since: float = 0.0
    """Epoch seconds."""
    expires_at: float | None = None
    """Epoch seconds; from then on it stops nothing. None: it stays."""
    cancel: bool = False
    """Jobs that run already are asked to stop at their next checkpoint."""

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= _ALL:
            raise BadSnapshot(f"percent is {self.percent!r}: use 0 to 100")

    def stops(self, flag: str, subject: Mapping[Field, str | None], ident: str, now: float) -> bool:
        """Whether it stops this one; `ident` tells the keys apart, empty: all of a class at once are meant."""
        if self.expires_at is not None and now >= self.expires_at:
            return False
        if self.percent < _ALL and not (ident and bucket(flag, ident) < self.percent):
            return False
        return all(each.holds(subject[each.field]) for each in self.where)


def bucket(flag: str, ident: str) -> float:
    """Return where a key stands under a flag, from 0 to below 100: the same in every process and at every time."""
    raw = hashlib.blake2b(f"{flag}\0{ident}".encode(), digest_size=8).digest()
    return (int.from_bytes(raw) >> 11) * 100 / 2**53


Rules = tuple[tuple[str, Rule], ...]
"""Flag and rule, each."""


class _Kept(dict[str, Rules]):
    """Name → the rules of its flag, worked out once for each name."""

    __slots__ = ("_flag", "_rules")

    def __init__(self, rules: Mapping[str, tuple[Rule, ...]], flag: Callable[[str], str]) -> None:
        super().__init__()
        self._rules, self._flag = rules, flag

    def __missing__(self, name: str) -> Rules:
        flag = self._flag(name)
        found = tuple((flag, rule) for rule in self._rules.get(flag, ()))
        if len(self) < _NAMES_KEPT:
            self[name] = found
        return found


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All rules at one moment. Never changed: a newer one takes its place."""

    version: int = 0
    """Milliseconds since 1970, and only ever greater; 0: nothing was ever published."""
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    """Flag → its rules."""
    known: bool = True
    """False: switches are configured, and nobody has ever seen a good answer of theirs: `on_unknown` counts."""
    reconciled: frozenset[str] = frozenset()
    """Job classes that a reconciler tells, for processes that do not import it: what is stopped of these may be dropped."""
    _classes: _Kept = field(init=False, repr=False, compare=False)
    _queues: _Kept = field(init=False, repr=False, compare=False)
    _reconcilers: _Kept = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rules = MappingProxyType(dict(self.rules))
        object.__setattr__(self, "rules", rules)
        object.__setattr__(self, "_classes", _Kept(rules, flag_of_class))
        object.__setattr__(self, "_queues", _Kept(rules, flag_of_queue))
        object.__setattr__(self, "_reconcilers", _Kept(rules, flag_of_reconciler))

    @property
    def cancels(self) -> bool:
        """Whether some flag also stops what runs already."""
        return any(rule.cancel for rules in self.rules.values() for rule in rules)

    def about(self, name: str, queue: str, reconciler: str | None = None) -> Rules:
        """Return the rules that may stop jobs of this class on this queue: nearly always none, in two look-ups."""
        found = self._classes[name] + self._queues[queue]
        return found if reconciler is None else found + self._reconcilers[reconciler]

    def stop(
        self, name: str, queue: str, ident: str = "", context: Context = NO_CONTEXT, *, now: float
    ) -> Stop | None:
        """Say whether, and why, this must not run now.

        `ident` is the digest of a job's key, or its jid; empty asks for the class as a whole, which no percentage stops;
        an empty `queue`, for all its queues, which no condition on queues stops.
        `now` is in epoch seconds.
        """
        rules = self.about(name, queue, context.reconciler)
        if not rules:
            return None
        subject = {
            Field.CLASS: name,
            Field.QUEUE: queue or None,
            Field.TENANT: context.tenant,
            Field.KEY: context.key,
            Field.RECONCILER: context.reconciler,
        }
        for flag, rule in rules:
            if rule.stops(flag, subject, ident, now):
                return Stop(flag, rule.reason, rule.source, rule.cancel)
        return None

    def doubt(self, flag: str, on_unknown: OnUnknown) -> Stop | None:
        """Say whether a class whose own word for the unknown is this must not run, since no switch was ever read."""
        if self.known or on_unknown is OnUnknown.RUN:
            return None
        return Stop(flag, "its switches were never read, and on_unknown is 'stop'", "unknown")

    def dump(self) -> bytes:
        """Return it as JSON of at most 1 MB. It begins with version and `known`, which scripts match.

        Raises:
            BadSnapshot: more rules than that.
        """
        wire = _Wire(self.version, self.known, dict(self.rules), sorted(self.reconciled))
        raw = msgspec.json.encode(wire)
        if len(raw) > LARGEST:
            raise BadSnapshot(
                f"the switches take {len(raw):,} bytes as JSON, more than {LARGEST:,}: name fewer keys or tenants"
            )
        return raw

    @classmethod
    def parse(cls, raw: bytes) -> Snapshot:
        """Return what `dump` wrote.

        Raises:
            BadSnapshot: anything else.
        """
        if len(raw) > LARGEST or _HEAD.match(raw) is None:
            raise BadSnapshot(f"{len(raw):,} bytes that are no snapshot of switches: {raw[:60]!r}")
        try:
            wire = _decoder.decode(raw)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise BadSnapshot(f"no snapshot of switches: {error}") from None
        return cls(wire.version, wire.rules, wire.known, frozenset(wire.reconciled))


class _Wire(msgspec.Struct, frozen=True):
    version: int
    known: bool
    rules: dict[str, tuple[Rule, ...]]
    reconciled: list[str] = []


_decoder: Final = msgspec.json.Decoder(_Wire)

NOTHING: Final = Snapshot()
"""No switches are configured: everything runs."""
UNKNOWN: Final = Snapshot(known=False)
"""Switches are configured, and nothing is known of them yet."""
