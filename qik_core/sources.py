"""Where settings come from: files, the environment, flags and code. Each finds its own problems; `settings` judges values.

A source maps a field to a value and where it was found. Databases are `databases.<name>`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from qik_core import providers
from qik_core.errors import DefinitionError, SettingsError
from qik_core.options import did_you_mean
from qik_core.store import keys

DATABASE: Final = "databases."
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "concurrency": (1, 1_000),
    "processes": (1, 256),
    "heartbeat": (0.05, 60),
    "lease": (0.2, 3_600),
    "shutdown": (0, 86_400),
    "poll": (0.01, 60),
    "dead_max": (1, 10_000_000),
    "dead_days": (1, 36_500),
    "retries": (0, 1_000),
    "max_payload": (1_024, 512 * 1_048_576),
    "max_memory": (16, 16_777_216),
    "metrics_port": (1, 65_535),
}
_WHOLE: Final = frozenset(RANGES) - {"heartbeat", "lease", "shutdown", "poll"}
_SWITCHES: Final = frozenset({"allow_eviction", "class_metrics"})
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "order": ("strict", "weighted", "random"),
    "wire": ("sidekiq7", "sidekiq8"),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("auto", "pretty", "plain", "json"),
}
SECRETS: Final = ("web_password", "web_read_password", "web_token", "web_read_token")
_TEXTS: Final = ("app", "redis", "release", "metrics_host", *SECRETS)
_TABLES: Final = ("databases", "switches")
FIELDS: Final = (*_TEXTS, *_TABLES, "queues", "capsules", *_CHOICES, *RANGES, *_SWITCHES)
_OF_A_CAPSULE: Final = ("queues", "concurrency", "order")
_OWN_NAMES: Final[Mapping[str, str]] = {"redis": "REDIS_URL"}


def _variable(name: str) -> str:
    return _OWN_NAMES.get(name, f"QIK_{name.upper()}")


_VARIABLES: Final[Mapping[str, str]] = {
    **{_variable(name): name for name in FIELDS if name not in _TABLES},
    **providers.VARIABLES,
}
_NEAR: Final[Mapping[str, str]] = {
    **{variable.removeprefix("QIK_").lower(): variable for variable in _VARIABLES},
    **{field: variable for variable, field in _VARIABLES.items()},
    "databases": "DATABASE_URL",
    "switches": "QIK_SWITCHES_FILE",
}
"""What a variable's name may be near to, and which variable is meant."""
_FORMS: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {
    **dict.fromkeys(
        SECRETS,
        (re.compile(r"[ -~]{8,200}"), "cannot be a secret: use 8 to 200 characters of ASCII"),
    ),
    "app": (
        re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?", re.ASCII),
        "is no module: use a dotted name, as in shop.jobs",
    ),
    "release": (
        re.compile(r"[!-~]{1,100}", re.ASCII),
        "is no release: use 1 to 100 characters without spaces, as in v2.31 or a commit",
    ),
    "metrics_host": (
        re.compile(r"[A-Za-z0-9.:-]{1,253}", re.ASCII),
        "is no host: use an address of this machine, as in 127.0.0.1 or 0.0.0.0",
    ),
}
_CAPSULE: Final = re.compile(r"[A-Za-z_][\w-]{0,63}", re.ASCII)
_LARGEST_FILE: Final = 1_000_000


class Order(StrEnum):
    """In which order a worker looks at its queues."""

    STRICT = "strict"  # the first that has jobs
    WEIGHTED = "weighted"  # drawn by weight
    RANDOM = "random"  # drawn evenly


@dataclass(frozen=True, slots=True, kw_only=True)
class CapsuleSettings:
    """A group of job threads inside each worker process, with queues of its own."""

    queues: tuple[tuple[str, int], ...]
    concurrency: int | None = None
    """Job threads; None: as many as the setting `concurrency` says."""
    order: Order = Order.STRICT

    def __str__(self) -> str:
        queues = " ".join(
            f"{name},{weight}" if weight != 1 else name for name, weight in self.queues
        )
        return f"{queues} ({self.order}, {self.concurrency or 'as many threads as concurrency'})"


class Given(NamedTuple):
    """A value, and where it was found."""

    value: Any
    origin: str


def from_mapping(values: Mapping[str, Any], origin: str, problems: list[str]) -> dict[str, Given]:
    """Return what flags, code or a table of a file say, with unknown names and wrong types among the problems."""
    found: dict[str, Given] = {}
    for name, value in values.items():
        if name not in FIELDS:
            problems.append(
                f"{name} ({origin}): there is no such setting{did_you_mean(name, FIELDS)}"
            )
        elif name == "databases":
            found.update(_databases(value, origin, problems))
        elif name == "switches":
            found.update(_providers(value, origin, problems))
        elif name == "capsules":
            found["capsules"] = Given(_capsules(value, origin, problems), origin)
        else:
            _take(found, name, value, origin, problems)
    return found


def from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Given]:
    """Return what the environment says: REDIS_URL, QIK_<FIELD>, DATABASE_URL, DATABASE_URL_<NAME>, UNLEASH_URL."""
    found: dict[str, Given] = {}
    for variable in sorted(environ):
        name = _field_of(variable, problems)
        if name is None:
            continue
        text = environ[variable]
        if not text.strip():
            problems.append(
                f"{name} (environment {variable}): it is set but empty: unset it, or give a value"
            )
        elif text != text.strip() or not text.isprintable():
            problems.append(
                f"{name} (environment {variable}): it has spaces or control characters around or inside"
            )
        else:
            told = {name: _read(name, text)}
            origin = f"environment {variable}"
            if name.startswith((DATABASE, providers.PREFIX)):
                _take(found, name, told[name], origin, problems)
            else:
                found.update(from_mapping(told, origin, problems))
    return found


def from_file(environ: Mapping[str, str], folder: Path, problems: list[str]) -> dict[str, Given]:
    """Return what the file says: QIK_CONFIG, or `qik.toml`, or `[tool.qik]` in `pyproject.toml`."""
    if chosen := environ.get("QIK_CONFIG", "").strip():
        return _file(Path(chosen), problems)
    if (folder / "qik.toml").exists():
        return _file(folder / "qik.toml", problems)
    if (folder / "pyproject.toml").exists():
        return _file(folder / "pyproject.toml", problems)
    return {}


def _file(path: Path, problems: list[str]) -> dict[str, Given]:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            problems.append(
                f"file {path}: larger than {_LARGEST_FILE:,} bytes: that is no file of settings"
            )
            return {}
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"file {path}: {error}")
        return {}
    if path.name == "pyproject.toml":
        tool = table.get("tool", {})
        table = tool.get("qik", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        problems.append(f"file {path}: [tool.qik] is not a table")
        return {}
    return from_mapping(table, f"file {path}", problems)


def _field_of(variable: str, problems: list[str]) -> str | None:
    if variable == "DATABASE_URL":
        return f"{DATABASE}default"
    if variable.startswith("DATABASE_URL_"):
        return DATABASE + variable.removeprefix("DATABASE_URL_").lower()
    if variable in _VARIABLES:
        return _VARIABLES[variable]
    if variable.startswith("QIK_") and variable != "QIK_CONFIG":
        name = variable.removeprefix("QIK_").lower()
        # Only near misses: other variables of this prefix may be somebody else's.
        problems += [
            f"environment {variable}: there is no such setting; did you mean {_NEAR[near]!r}?"
            for near in difflib.get_close_matches(name, _NEAR, n=1, cutoff=0.75)
        ]
    return None


def _take(found: dict[str, Given], name: str, value: Any, origin: str, problems: list[str]) -> None:
    typed = providers.typed if name.startswith(providers.PREFIX) else _typed
    try:
        found[name] = Given(typed(name, value), origin)
    except (SettingsError, DefinitionError) as error:
        problems.append(f"{name} ({origin}): {error}")


def _typed(name: str, value: Any) -> Any:
    if name in RANGES:
        return _ranged(name, value)
    if name == "queues":
        return _queues(value)
    if name in _SWITCHES:
        return _switch(value)
    if name.startswith(DATABASE) and not isinstance(value, (str, int, float, list, dict, bool)):
        return value  # an engine or a sessionmaker of the application
    if not isinstance(value, str):
        raise SettingsError(f"it is a {type(value).__name__}: use a text")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise SettingsError(f"it is {value!r:.80}: use one of {', '.join(_CHOICES[name])}")
    if name in _FORMS and _FORMS[name][0].fullmatch(value) is None:
        shown = "it" if name in SECRETS else f"{value!r:.80}"
        raise SettingsError(f"{shown} {_FORMS[name][1]}")
    return str(value)


def _ranged(name: str, value: Any) -> float:
    whole = name in _WHOLE
    if type(value) is int or (type(value) is float and not whole):
        return value if whole else float(value)
    remedy = "write the number without quotes" if isinstance(value, str) else "use a number"
    raise SettingsError(
        f"it is {value!r:.80}: {'use a whole number' if type(value) is float else remedy}"
    )


def _switch(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise SettingsError(f"it is {value!r:.80}: use true or false")


def _read(name: str, text: str) -> Any:
    """Return the value that a text of the environment stands for; what cannot be read is refused where types are checked."""
    if name in _SWITCHES:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if name == "capsules":
        try:
            return json.loads(text)
        except ValueError:
            return text
    for kind in (int, float) if name in RANGES or name in providers.NUMBERS else ():
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def order_of(order: str | None, queues: Iterable[tuple[str, int]]) -> Order:
    """Return the order that was asked for; without one, weights that differ from 1 mean weighted."""
    if order is not None:
        return Order(order)
    return Order.WEIGHTED if any(weight != 1 for _, weight in queues) else Order.STRICT


def _queues(value: Any) -> tuple[tuple[str, int], ...]:
    entries = value.split() if isinstance(value, str) else value
    if not isinstance(entries, (list, tuple)):
        raise SettingsError(
            f"it is a {type(value).__name__}: use a list, as in ['critical,5', 'default']"
        )
    return tuple(_queue(each) for each in entries)


def _queue(entry: Any) -> tuple[str, int]:
    if isinstance(entry, str):
        name, comma, weight = entry.partition(",")
        if comma and not (weight.isascii() and weight.isdigit()):
            raise SettingsError(f"the weight in {entry!r:.80} is no number: use 'name,5'")
        return keys.check_queue(name), int(weight) if comma else 1
    if isinstance(entry, (list, tuple)) and len(entry) == 2 and type(entry[1]) is int:  # noqa: PLR2004
        return keys.check_queue(entry[0]), entry[1]
    raise SettingsError(f"{entry!r:.80} is no queue: use 'name', 'name,5' or ['name', 5]")


def _databases(value: Any, origin: str, problems: list[str]) -> dict[str, Given]:
    found: dict[str, Given] = {}
    if not isinstance(value, Mapping):
        problems.append(
            f"databases ({origin}): use a table of names and URLs, as in databases.default = 'sqlite:///x.db'"
        )
        return found
    for name, each in value.items():
        if not isinstance(name, str) or not name.isidentifier():
            problems.append(
                f"databases ({origin}): {name!r:.80} is no name: use letters, digits and _"
            )
            continue
        _take(found, DATABASE + name, each, origin, problems)
    return found


def _providers(value: Any, origin: str, problems: list[str]) -> dict[str, Given]:
    found: dict[str, Given] = {}
    if isinstance(value, providers.SwitchSettings):
        value = dataclasses.asdict(value)
    if not isinstance(value, Mapping):
        problems.append(f"switches ({origin}): use a table, as in switches.file = 'switches.toml'")
        return found
    for name, each in value.items():
        if name not in providers.FIELDS:
            meant = did_you_mean(str(name), providers.FIELDS)
            problems.append(f"switches.{name!s:.80} ({origin}): there is no such setting{meant}")
        elif each is not None:
            _take(found, providers.PREFIX + name, each, origin, problems)
    return found


def _capsules(value: Any, origin: str, problems: list[str]) -> dict[str, CapsuleSettings]:
    found: dict[str, CapsuleSettings] = {}
    if not isinstance(value, Mapping):
        problems.append(
            f"capsules ({origin}): use a table of names, as in capsules.slow = {{ queues = ['reports'], concurrency = 1 }}; "
            'in the environment as JSON, {"slow": {"queues": ["reports"], "concurrency": 1}}'
        )
        return found
    for name, each in value.items():
        try:
            found[str(name)] = _capsule(name, each)
        except (SettingsError, DefinitionError) as error:
            problems.append(f"capsules.{name!s:.80} ({origin}): {error}")
    return found


def _capsule(name: object, value: Any) -> CapsuleSettings:
    if isinstance(value, CapsuleSettings):
        value = dataclasses.asdict(value)
    if not isinstance(name, str) or _CAPSULE.fullmatch(name) is None:
        raise SettingsError("cannot be a name: use 1 to 64 of A-Z a-z 0-9 _ -, a letter first")
    if name == "default":
        raise SettingsError("the default capsule is what queues, concurrency and order say")
    return _capsule_of(value)


def _capsule_of(value: Any) -> CapsuleSettings:
    if not isinstance(value, Mapping):
        raise SettingsError(f"it is a {type(value).__name__}: use a table with queues")
    for key in value:
        if key not in _OF_A_CAPSULE:
            raise SettingsError(
                f"{key!s:.80} is no setting of a capsule{did_you_mean(str(key), _OF_A_CAPSULE)}"
            )
    queues, threads, order = (
        _queues(value.get("queues", ())),
        value.get("concurrency"),
        value.get("order"),
    )
    if threads is not None and type(threads) is not int:
        raise SettingsError(f"concurrency is {threads!r:.80}: use a whole number")
    if order is not None and order not in _CHOICES["order"]:
        raise SettingsError(f"order is {order!r:.80}: use one of {', '.join(_CHOICES['order'])}")
    return CapsuleSettings(queues=queues, concurrency=threads, order=order_of(order, queues))
