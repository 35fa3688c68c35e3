"""The settings of one process: flag > code (`configure`) > environment > file > default, each value with its origin.

All problems are found at once, each with its origin and its remedy. Values that hold secrets print masked. What a child
process needs travels as JSON; objects (engines, middleware) do not travel: a child imports the application, whose own
`configure()` makes them again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from qik_core import providers, sources, urls
from qik_core.chain import check
from qik_core.errors import DefinitionError, SettingsError
from qik_core.middleware import ClientMiddleware, ServerMiddleware
from qik_core.providers import SwitchSettings
from qik_core.sources import CapsuleSettings, Order
from qik_core.urls import mask

DEFAULT: Final = "default"
_HEARTBEATS: Final = 3


class Wire(StrEnum):
    """How times are written into payloads. Both are read."""

    SIDEKIQ7 = "sidekiq7"  # float seconds: right for every Sidekiq
    SIDEKIQ8 = "sidekiq8"  # integer milliseconds: Sidekiq 8 and later


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """The settings of one process. Times are in seconds.

    Raises:
        SettingsError: every value that cannot work, with its origin and the remedy.
    """

    app: str | None = None
    """The module that defines jobs and reconcilers."""
    release: str | None = None
    """Which release of the application runs: a commit, a version. A new one gives each quarantined row one run."""
    redis: str = "redis://localhost:6379/0"
    databases: Mapping[str, Any] = field(default_factory=dict)
    """Name to URL, or to an object of the application: an engine or a sessionmaker."""
    queues: tuple[tuple[str, int], ...] = (("default", 1),)
    """Queues that a worker serves, with their weights."""
    order: Order = Order.STRICT
    concurrency: int = 10
    """Job threads of one process, those of further capsules not counted."""
    capsules: Mapping[str, CapsuleSettings] = field(default_factory=dict)
    """Further groups of job threads with queues of their own, by name."""
    processes: int = 1
    heartbeat: float = 5.0
    lease: float = 30.0
    """A process that was silent for so long is lost."""
    shutdown: float = 25.0
    """How long running jobs may take to end after TERM."""
    poll: float = 1.0
    """Between two looks at jobs that became due."""
    wire: Wire = Wire.SIDEKIQ7
    log_level: str = "info"
    """Of worker processes; `info` has a line when a job starts and one when it ends."""
    log_format: str = "auto"
    """auto (pretty on a terminal, else plain), pretty, plain or json."""
    retries: int = 25
    """What `retry=True` means."""
    max_payload: int = 1_048_576
    """Bytes of one job as JSON; a push of more is refused."""
    max_memory: int | None = None
    """MB of one worker process, which is replaced when it has grown beyond; None: no limit."""
    metrics_port: int | None = None
    """Where each parent of workers, and each `reconciler run`, answers probes and scrapes; None: nowhere."""
    metrics_host: str = "127.0.0.1"
    class_metrics: bool = True
    """Tell Redis what each class ran in each minute, for the dashboard and for Sidekiq's Metrics page."""
    web_password: str | None = None
    """Of people who may see the dashboard and change things. A secret, as the three below."""
    web_read_password: str | None = None
    """Of people who may look."""
    web_token: str | None = None
    """Of programs that may change things."""
    web_read_token: str | None = None
    switches: SwitchSettings = field(default_factory=SwitchSettings)
    """Who says which kill switches are on, beside `reconciler disable`."""
    allow_eviction: bool = False
    """Work on a Redis that may drop keys when it is full."""
    dead_max: int = 10_000
    dead_days: int = 180
    client_middleware: tuple[ClientMiddleware, ...] = ()
    server_middleware: tuple[ServerMiddleware, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where each value that is not a default came from."""

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise SettingsError(_together(problems))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.masked().items())
        return f"Settings({shown})"

    def origin(self, name: str) -> str:
        """Return where a value came from; for one of them `databases.<name>`, `switches.<name>` or `capsules.<name>`."""
        name = "capsules" if name.startswith("capsules.") else name
        return self.origins.get(name, DEFAULT)

    def all_capsules(self) -> dict[str, CapsuleSettings]:
        """Return every capsule of a worker process by name, `default` first; concurrency is filled in."""
        own = CapsuleSettings(queues=self.queues, concurrency=self.concurrency, order=self.order)
        further = {
            name: replace(each, concurrency=each.concurrency or self.concurrency)
            for name, each in self.capsules.items()
        }
        return {DEFAULT: own, **further}

    @property
    def served(self) -> frozenset[str]:
        """The queues from which a worker with these settings fetches, in all its capsules."""
        return frozenset(name for each in self.all_capsules().values() for name, _ in each.queues)

    @property
    def slots(self) -> int:
        """How many jobs one worker process runs at most at once, in all its capsules."""
        return sum(each.concurrency or 0 for each in self.all_capsules().values())

    def masked(self) -> dict[str, Any]:
        """Return every value as it may be printed: no passwords, objects by their type."""
        shown = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name != "origins"
        }
        shown["redis"] = mask(self.redis)
        shown.update({name: "***" for name in sources.SECRETS if shown[name] is not None})
        shown["switches"] = self.switches.masked()
        shown["capsules"] = {name: str(each) for name, each in self.capsules.items()}
        shown["databases"] = {name: _shown(value) for name, value in self.databases.items()}
        for chain in ("client_middleware", "server_middleware"):
            shown[chain] = [
                getattr(each, "__qualname__", type(each).__qualname__) for each in shown[chain]
            ]
        return shown

    def told(self) -> dict[str, dict[str, Any]]:
        """Return every setting by name, as `lease` or `databases.main`: its value as it may be printed, and its origin."""
        values = self.masked()
        for table in ("databases", "capsules", "switches"):
            entries = values.pop(table)
            values.update({f"{table}.{name}": value for name, value in entries.items()})
        return {
            name: {"value": _plain(value), "origin": self.origin(name)}
            for name, value in sorted(values.items())
        }

    def to_json(self) -> str:
        """Return the settings for a child process: plain values and their origins. It holds secrets: never log it."""
        plain = {name: getattr(self, name) for name in sources.FIELDS}
        plain["databases"] = {
            name: url for name, url in self.databases.items() if isinstance(url, str)
        }
        return msgspec.json.encode({**plain, "origins": self.origins}).decode()

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return what `to_json` wrote.

        Raises:
            SettingsError: it did not write this.
        """
        try:
            values = msgspec.json.decode(text)
        except ValueError as error:
            raise SettingsError(f"the settings from the parent are not JSON: {error}") from None
        if not isinstance(values, dict) or not set(values) <= {*sources.FIELDS, "origins"}:
            raise SettingsError(
                "the settings from the parent are of another version: restart the parent"
            )
        origins = dict(values.pop("origins", {}))
        problems: list[str] = []
        given = sources.from_mapping(
            {name: value for name, value in values.items() if value is not None}, "parent", problems
        )
        return replace(_make(given, problems), origins=origins)

    def _problems(self) -> Iterator[str]:
        yield from self._ranges()
        yield from self._said("redis", urls.redis_problem(self.redis))
        for name, value in self.databases.items():
            yield from self._said(f"databases.{name}", urls.database_problem(value))
        for name, problem in self.switches.problems():
            yield from self._said(f"{providers.PREFIX}{name}", problem)
        for name, capsule in self.all_capsules().items():
            said = (
                f"queues ({self.origin('queues')})"
                if name == DEFAULT
                else f"capsules.{name} ({self.origin('capsules')}): queues"
            )
            yield from _queue_problems(said, capsule.queues)
        if self.lease <= _HEARTBEATS * self.heartbeat:
            yield (
                f"lease is {self.lease:g} s ({self.origin('lease')}) and heartbeat {self.heartbeat:g} s: "
                f"a lease must be longer than {_HEARTBEATS} heartbeats, else processes that live are taken for lost"
            )

    def _ranges(self) -> Iterator[str]:
        for name, (least, most) in sources.RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                yield f"{name} is {value:g} ({self.origin(name)}): use {least:g} to {most:g}"
        least, most = sources.RANGES["concurrency"]
        for name, capsule in self.capsules.items():
            if not least <= (capsule.concurrency or least) <= most or capsule.concurrency == 0:
                yield (
                    f"capsules.{name} ({self.origin('capsules')}): concurrency is {capsule.concurrency}: "
                    f"use {least:g} to {most:g}"
                )

    def _said(self, name: str, problem: str | None) -> Iterator[str]:
        if problem is not None:
            yield f"{name} ({self.origin(name)}): {problem}"


def _queue_problems(said: str, queues: Sequence[tuple[str, int]]) -> Iterator[str]:
    if not queues:
        yield f"{said}: empty: name at least one, as in queues = ['default']"
    seen: set[str] = set()
    for name, weight in queues:
        if name in seen:
            yield f"{said}: {name!r} is there twice: name it once, with a weight"
        if weight < 1:
            yield f"{said}: the weight of {name!r} is {weight}: use 1 or more"
        seen.add(name)


# --- the settings of this process ---------------------------------------------------------------

_lock = threading.RLock()
_current: Settings | None = None


def load(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Return the settings from flags (None values count as absent), the environment, and the file in `folder`.

    The file is QIK_CONFIG, or `qik.toml`, or `[tool.qik]` in `pyproject.toml`.

    Raises:
        SettingsError: all problems at once.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    given = sources.from_file(environ, folder or Path.cwd(), problems)
    given.update(sources.from_environment(environ, problems))
    given.update(sources.from_mapping(_present(flags), "flag", problems))
    return _make(given, problems)


def current() -> Settings:
    """Return the settings of this process; read once, at first use.

    Raises:
        SettingsError: as `load`.
    """
    global _current  # noqa: PLW0603 - the one default, read at the edge only
    with _lock:
        if _current is None:
            _current = load()
        return _current


def use(settings: Settings | None) -> None:
    """Make these the settings of this process; None: read them anew at the next use."""
    global _current  # noqa: PLW0603
    with _lock:
        _current = settings


def configure(
    *,
    client_middleware: Sequence[ClientMiddleware] | None = None,
    server_middleware: Sequence[ServerMiddleware] | None = None,
    **values: Any,
) -> Settings:
    """Change the settings of this process from code: `redis=`, `databases={name: engine or URL}`, and every other field.

    What a flag said stays. A chain of middleware replaces the one before; databases are added by name.

    Raises:
        SettingsError: an unknown name, or a value that cannot work; nothing was changed.
    """
    problems: list[str] = []
    given = sources.from_mapping(values, "configure()", problems)
    if problems:
        raise SettingsError(_together(problems))
    with _lock:
        before = current()
        changes = {
            name: each for name, each in given.items() if not before.origin(name).startswith("flag")
        }
        plain, databases, switches = _parts(changes)
        for name, chain in (
            ("client_middleware", client_middleware),
            ("server_middleware", server_middleware),
        ):
            if chain is not None:
                plain[name] = _chain(name, chain)
        made = replace(
            before,
            **plain,
            databases={**before.databases, **databases},
            switches=replace(before.switches, **switches),
            origins={**before.origins, **dict.fromkeys((*plain, *changes), "configure()")},
        )
        use(made)
        return made


def _make(given: Mapping[str, sources.Given], problems: Sequence[str] = ()) -> Settings:
    plain, databases, switches = _parts(given)
    plain["order"] = sources.order_of(plain.get("order"), plain.get("queues", ()))
    if "wire" in plain:
        plain["wire"] = Wire(plain["wire"])
    origins = {name: each.origin for name, each in given.items()}
    try:
        tables = {"databases": databases, "switches": SwitchSettings(**switches)}
        made = Settings(**{**tables, **plain, "origins": origins})
    except SettingsError as error:
        raise SettingsError(_together([*problems, *str(error).splitlines()])) from None
    if problems:
        raise SettingsError(_together(problems))
    return made


def _parts(
    given: Mapping[str, sources.Given],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return plain values, those of databases, those of switches."""
    plain: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {sources.DATABASE: {}, providers.PREFIX: {}}
    for name, each in given.items():
        prefix = next((prefix for prefix in tables if name.startswith(prefix)), None)
        if prefix is None:
            plain[name] = each.value
        else:
            tables[prefix][name.removeprefix(prefix)] = each.value
    return plain, tables[sources.DATABASE], tables[providers.PREFIX]


def _chain(name: str, chain: Sequence[Any]) -> tuple[Any, ...]:
    for each in chain:
        try:
            check(each)
        except DefinitionError as error:
            raise SettingsError(f"{name} (configure()): {error}") from None
    return tuple(chain)


def _together(problems: Sequence[str]) -> str:
    return "\n".join(problems)


def _present(flags: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (flags or {}).items() if value is not None}


def _shown(value: object) -> str:
    return mask(value) if isinstance(value, str) else f"<{type(value).__name__}>"


def _plain(value: Any) -> Any:
    """Return a setting as JSON has it."""
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def written(value: Any) -> str:
    """Return a setting as a person writes it: queues as `critical,5 default,1`."""
    if not isinstance(value, (list, tuple)):
        return "-" if value is None else str(value)
    words = [each if isinstance(each, str) else ",".join(map(str, each)) for each in value]
    return " ".join(words) or "-"
