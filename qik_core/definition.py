"""What a job class is, to push and to run it: its name, its options, its arguments, and how its payloads are built.

Payloads are built by the column: one template for the class, one call of the encoder for all arguments, one for all jids.
A digest is over the registered name and the canonical arguments, whatever the queue: a pass and an application's own push
of one row meet in one key.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, Final, NamedTuple

from qik_core import options
from qik_core.arguments import Arguments, Untyped, encode_row, encode_rows
from qik_core.errors import DefinitionError
from qik_core.payload import DIGEST, Template, Until, new_jid, new_jids, stamps
from qik_core.switches import OnUnknown

_MANY: Final = 25  # what retry=True means, as in Sidekiq
_NEVER: Final = -1
_OF_THE_CLASS: Final = frozenset(
    {"name", "aliases", "unique_args", "timeout", "retry_on", "discard_on"}
    | {"reconciled", "reason", "on_unknown", "tenant"}
)
_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True, slots=True)
class Window:
    """How long, and until when, a key of a unique job is held."""

    seconds: int
    """`unique_for`: how long an application's duplicate is refused."""
    until: Until = "success"

    @property
    def mark(self) -> bytes:
        """What stands behind the digest in a payload's header."""
        return b"%s%d" % (b"S" if self.until == "success" else b"T", self.seconds)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a job class says of its failures, beside how often it is retried."""

    retry_on: tuple[type[BaseException], ...] = ()
    """Only these are retried; any other error makes the job dead at once. Empty: all are."""
    discard_on: tuple[type[BaseException], ...] = ()
    """These drop the job."""
    retry_in: Callable[[int, BaseException, Any], object] | None = None
    """Takes the number of failures before this one, the error and the job; see `Job.retry_in`."""
    exhausted: Callable[[Any, BaseException], object] | None = None
    """Takes the job and the error; see `Job.retries_exhausted`."""


_PLAIN: Final = Rules()


class Built(NamedTuple):
    """Payloads ready for the store, and what belongs to them, all in the order of the rows."""

    jids: list[bytes]
    payloads: list[bytes]
    digests: list[bytes] | None
    """22 characters each; None for a job that is not unique."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One job class as the engine sees it. Never changed: `with_options` returns another one."""

    name: str
    """The registered name: `class` on the wire."""
    aliases: tuple[str, ...]
    queue: str
    retry: int
    """How often a failed job runs again; 0: dead at the first failure; -1 (`retry=False`): dropped, not even dead."""
    dead: bool
    """A job whose retries are used up is kept as dead."""
    backtrace: bool | int
    unique: Window | None
    expires_in: float | None
    timeout: float | None
    """After so many seconds a run is interrupted."""
    rules: Rules
    exempt: str | None
    """Why no reconciler tells this job again; None: nothing is said. The engine only carries it."""
    on_unknown: OnUnknown
    """Whether it runs while its kill switches are configured and were never read."""
    tenant: int | None
    """Which of its arguments says whose a job is; None: none does."""
    arguments: Arguments | Untyped
    is_async: bool
    make: Callable[[Any], Any]
    """Takes the context of a run, returns what has `perform`."""
    origin: tuple[str, str]
    """File and qualified name, to tell a clash of names from a reload."""
    fields: Mapping[str, Any]
    """The constant fields of its payloads."""
    template: Template

    # --- push ----------------------------------------------------------------

    def build(
        self,
        rows: Sequence[Sequence[Any]],
        created: float,
        *,
        due: Sequence[float] | None = None,
        milliseconds: bool = False,
        jids: list[bytes] | None = None,
        digests: list[bytes] | None = None,
    ) -> Built:
        """Return the payloads of many jobs.

        `created` is the time of the push in epoch seconds; `due`, for jobs that do not go on a queue at once, when each
        is due; `jids` are fresh ones by default; `digests` of these rows save making them again.

        Raises:
            RowError: a row does not fit; nothing was built.
        """
        values = self.arguments.dump_rows(rows)
        args = encode_rows(values)
        jids = new_jids(len(args)) if jids is None else jids
        times = self._stamps(created, due, milliseconds=milliseconds)
        if self.unique is None:
            return Built(
                jids,
                self.template.build_many(list(repeat(b"-", len(args))), jids, args, times),
                None,
            )
        if digests is None:
            digests = self._hash(self.arguments.keys(values, args))
        mark = self.unique.mark
        marks = [digest + mark for digest in digests]
        return Built(jids, self.template.build_many(marks, jids, args, times), digests)

    def build_one(
        self, row: Sequence[Any], created: float, *, milliseconds: bool = False
    ) -> tuple[bytes, bytes, bytes | None]:
        """Return the jid, the payload and the key of one job for now: what `build` makes, for less.

        Raises:
            ArgumentError: the row does not fit; nothing was built.
        """
        values = self.arguments.dump(row, {})
        args = encode_row(values)
        jid = new_jid().encode()
        times = self._stamps(created, None, milliseconds=milliseconds)
        assert isinstance(times, bytes)  # noqa: S101 - one for all, where nothing is due
        if self.unique is None:
            return jid, self.template.build(b"-", jid, args, times), None
        (digest,) = self._hash(self.arguments.keys([values], [args]))
        return jid, self.template.build(digest + self.unique.mark, jid, args, times), digest

    def digests(self, rows: Sequence[Sequence[Any]]) -> list[bytes]:
        """Return the keys of many jobs, without building them: 22 base64url characters each.

        Raises:
            RowError: a row does not fit.
        """
        return self._hash(self.arguments.keys(self.arguments.dump_rows(rows)))

    def digest(self, args: Sequence[Any]) -> bytes:
        """Return the key of one job from the arguments in its payload, whoever wrote it.

        Raises:
            ArgumentError: the arguments do not fit `perform`.
        """
        return self.digests([self.arguments.load(args)])[0]

    # --- perform -------------------------------------------------------------

    def new(self, context: Any) -> Any:
        """Return what runs one job: an object with `perform`, which knows the run's context."""
        return self.make(context)

    # --- change --------------------------------------------------------------

    def with_options(self, changes: Mapping[str, Any], where: str) -> Definition:
        """Return this definition with other options for one call.

        Raises:
            DefinitionError: an option that does not exist or cannot work.
        """
        if not changes:
            return self
        return configure(self, changes, where)

    def _stamps(
        self, created: float, due: Sequence[float] | None, *, milliseconds: bool
    ) -> Sequence[bytes] | bytes:
        lasts = self.expires_in
        if due is None:
            expiry = None if lasts is None else created + lasts
            return stamps(created, queued=True, milliseconds=milliseconds, expiry=expiry)
        if lasts is None:
            return stamps(created, queued=False, milliseconds=milliseconds)
        return [
            stamps(created, queued=False, milliseconds=milliseconds, expiry=each + lasts)
            for each in due
        ]

    def _hash(self, keys: Sequence[bytes]) -> list[bytes]:
        start = hashlib.blake2b(self.name.encode() + b"\0", digest_size=16)
        raw = []
        for key in keys:
            one = start.copy()
            one.update(key)
            raw.append(one.digest())
        # 16 bytes and 2 of padding are 24 characters exactly, so one call writes all; the first 22 are the digest.
        text = binascii.b2a_base64(b"\0\0".join((*raw, b"")), newline=False).translate(_URLSAFE)
        return [text[at : at + DIGEST] for at in range(0, len(text), 24)]


def define(
    given: Mapping[str, Any],
    *,
    arguments: Arguments | Untyped,
    is_async: bool,
    make: Callable[[Any], Any],
    origin: tuple[str, str],
    rules: Rules = _PLAIN,
) -> Definition:
    """Return the definition of a job class with these options; `name` must be among them.

    `rules` are those that no option gives: the methods of the class.

    Raises:
        DefinitionError: an option that does not exist or cannot work.
    """
    name = given["name"]
    bare = Definition(
        name=name,
        aliases=tuple(options.job_name(each, f"{name}: aliases") for each in _aliases(given, name)),
        queue="default",
        retry=_MANY,
        dead=True,
        backtrace=False,
        unique=None,
        expires_in=None,
        timeout=options.timeout(given["timeout"], name) if "timeout" in given else None,
        rules=_rules(rules, given, name),
        exempt=options.exemption(given, name),
        on_unknown=options.on_unknown(given.get("on_unknown", "run"), name),
        tenant=_tenant(given, arguments, name),
        arguments=arguments,
        is_async=is_async,
        make=make,
        origin=origin,
        fields={"class": name, "retry": True},
        template=Template("default", {"class": name, "retry": True}),
    )
    rest = {key: value for key, value in given.items() if key not in _OF_THE_CLASS}
    return configure(bare, rest, name)


def untyped(name: str) -> Definition:
    """Return a definition for a job that this process does not define, as one of Ruby's.

    Raises:
        DefinitionError: not a name.
    """
    return define(
        {"name": options.job_name(name, "push")},
        arguments=Untyped(name),
        is_async=False,
        make=_unknown,
        origin=("", name),
    )


def configure(base: Definition, changes: Mapping[str, Any], where: str) -> Definition:
    """Return `base` with these options, checked, in its fields, its payloads and its behaviour."""
    fields = dict(base.fields)
    queue = options.queue(changes["queue"], where) if "queue" in changes else base.queue
    retry, dead, backtrace = base.retry, base.dead, base.backtrace
    if "retry" in changes:
        fields["retry"] = options.retry(changes["retry"], where)
        retry = _retries(fields["retry"])
    if "dead" in changes:
        fields["dead"] = dead = options.flag(changes["dead"], "dead", where)
    if "backtrace" in changes:
        fields["backtrace"] = backtrace = options.backtrace(changes["backtrace"], where)
    fields.update(
        {name: check(changes[name], where) for name, check in _TRAVEL.items() if name in changes}
    )
    return replace(
        base,
        queue=queue,
        retry=retry,
        dead=dead,
        backtrace=backtrace,
        unique=_window(base.unique, changes, where),
        expires_in=_expires(base.expires_in, changes, where),
        fields=fields,
        template=Template(queue, fields),
    )


def _rules(base: Rules, given: Mapping[str, Any], where: str) -> Rules:
    def classes(option: str) -> tuple[type[BaseException], ...]:
        return options.errors(given.get(option, ()), option, where)

    return replace(base, retry_on=classes("retry_on"), discard_on=classes("discard_on"))


def _retries(value: bool | int) -> int:  # noqa: FBT001 - the option's own form
    if value is True:
        return _MANY
    return _NEVER if value is False else value


def _window(base: Window | None, changes: Mapping[str, Any], where: str) -> Window | None:
    seconds = base.seconds if base else None
    until: Until = base.until if base else "success"
    if changes.get("unique_for") is False:
        return None  # this call asks for no lock, as in Sidekiq
    if changes.get("unique_for") is not None:
        seconds = options.unique_for(changes["unique_for"], where)
    if "unique_until" in changes:
        until = options.unique_until(changes["unique_until"], where)
        if seconds is None:
            raise DefinitionError(
                f"{where}: unique_until has no meaning without unique_for: say for how long"
            )
    return None if seconds is None else Window(seconds, until)


def _expires(base: float | None, changes: Mapping[str, Any], where: str) -> float | None:
    return options.expires_in(changes["expires_in"], where) if "expires_in" in changes else base


def _tags(value: object, where: str) -> list[str]:
    return list(options.names(value, "tags", where))


_TRAVEL: Final[Mapping[str, Callable[[object, str], Any]]] = {
    "tags": _tags,
    "retry_for": options.retry_for,
    "retry_queue": options.queue,
    "log_level": options.log_level,
}
"""Options that travel as they are, each with its check."""


def _tenant(given: Mapping[str, Any], arguments: Arguments | Untyped, name: str) -> int | None:
    if "tenant" not in given:
        return None
    names = arguments.names if isinstance(arguments, Arguments) else ()
    return options.tenant(given["tenant"], names, name)


def _aliases(given: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return options.names(given.get("aliases", ()), "aliases", name)


def _unknown(context: Any) -> Any:
    raise DefinitionError(f"this job is not defined in this process: {context}")
