"""docs/reference/settings.md and keys.md have exactly the settings and keys that the code has."""

from __future__ import annotations

import calendar
import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from qik_core import providers, settings, sources
from qik_core.api import ProcessSet
from qik_core.providers import SwitchSettings
from qik_core.settings import Settings
from qik_core.store import keys
from qik_core.store.witness import witness
from tests.gallery import gallery
from tests.qik_core.store.rig import Rig

ROOT = Path(__file__).parents[1]
Row = dict[str, str]


def rows(page: str) -> Iterator[Row]:
    """Yield each row of the tables of a page of docs/reference: what stands in its first row → its cell."""
    head: list[str] = []
    for line in (ROOT / f"docs/reference/{page}.md").read_text().splitlines():
        cells = [each.strip() for each in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            head = []
        elif not head:
            head = cells
        elif not line.startswith("|---"):
            yield dict(zip(head, cells, strict=True))


# --- settings -----------------------------------------------------------------------------------

NAMED = [(row["setting"].strip("`"), row) for row in rows("settings") if "setting" in row]
SETTINGS = dict(NAMED)
DEFAULTS = {each.name: getattr(Settings(), each.name) for each in fields(Settings)}
DEFAULTS |= {f"switches.{name}": getattr(SwitchSettings(), name) for name in providers.FIELDS}
del DEFAULTS["origins"]


def shown(value: Any) -> str:
    """Return a default as the page has it."""
    if isinstance(value, SwitchSettings):
        return "below"
    if value is None or value in ({}, ()):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,g}" if type(value) is float else _text(value)


def _text(value: Any) -> str:
    return f"{value:,}" if type(value) is int else settings.written(value)


def refused(name: str, value: Any) -> str:
    """Return what a source says to a value that cannot be."""
    problems: list[str] = []
    sources.from_mapping({name: value}, "test", problems)
    return " ".join(problems)


def setting_of(variable: str) -> str:
    """Return the setting that a variable of the environment gives."""
    problems: list[str] = []
    found = sources.from_environment({variable: "?"}, problems)
    (name,) = {*found} | {each.partition(" (")[0] for each in problems}
    return "databases" if name.startswith(sources.DATABASE) else name


def test_the_page_has_every_setting_and_no_other() -> None:
    assert sorted(name for name, _ in NAMED) == sorted(DEFAULTS)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_page_has_the_default_of_a_setting(name: str) -> None:
    assert SETTINGS[name]["default"].strip("`") == shown(DEFAULTS[name])


@pytest.mark.parametrize("name", SETTINGS)
def test_the_page_has_the_variables_of_a_setting(name: str) -> None:
    variables = re.findall(r"`([A-Z_<>]+)`", SETTINGS[name]["environment"])
    of_switches = {each for each, setting in providers.VARIABLES.items() if setting == name}

    assert {setting_of(each.replace("<NAME>", "EU")) for each in variables} <= {name}
    assert of_switches <= {*variables}
    assert bool(variables) == (
        name in {*sources.FIELDS, *providers.VARIABLES.values()} - {"switches"}
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_the_page_has_the_values_of_a_setting(name: str) -> None:
    values = SETTINGS[name]["values"]
    choices = re.search(r"use one of (.*)$", refused(name, "?")) if name in sources.FIELDS else None
    if name in sources.RANGES:
        least, most = sources.RANGES[name]
        assert re.match(rf"{least:,} to {most:,}\b", values)
    elif choices:
        assert values == ", ".join(f"`{each}`" for each in choices[1].split(", "))
    elif isinstance(DEFAULTS[name], bool):
        assert values == "`true`, `false`"


def test_the_page_has_the_range_of_the_one_number_among_switches() -> None:
    ((_, problem),) = SwitchSettings(unleash_refresh=0).problems()
    least, most = map(float, re.findall(r"use ([\d.]+) to ([\d.]+)", problem)[0])

    assert SETTINGS["switches.unleash_refresh"]["values"] == f"{least:,g} to {most:,g}"


def test_the_page_has_every_other_variable_that_is_read() -> None:
    source = "".join(
        path.read_text()
        for name in ("qik_core", "reconciler")
        for path in (ROOT / name).rglob("*.py")
    )
    read = re.findall(r'environ(?:ment)?(?:\.get\(|\.pop\(|\[)"(\w+)"', source)
    page = (ROOT / "docs/reference/settings.md").read_text()

    assert len({*read}) > 5
    assert {each for each in read if f"`{each}`" not in page} == {"QIK_CHILD"}  # from its parent


# --- keys ---------------------------------------------------------------------------------------

AT = float(calendar.timegm((2026, 11, 22, 8, 4, 0)))
SAMPLES: dict[str, list[Any]] = {"at": [AT], "eight": [True, False], "key": [b"<>"]}
BY_SCRIPTS = {"qik:orphans:<>": "hash", "qik:witness:old": "hash"}
"""Keys that scripts make out of the name of another."""
NO_KEYS = {"is_queue", "check_queue", "holder", "_day"}
_CONSTANT = re.compile(r'^[A-Z_]+: Final = (?:\(\n *)?b"(.+)"  # (.*)$', re.MULTILINE)
_TYPE = re.compile(r"\b(string|hash|list|set|zset)\b", re.IGNORECASE)


def kind(text: str) -> str:
    """Return the type that a comment or docstring of a key names first."""
    found = _TYPE.search(text)
    return found[1].lower() if found else "–"


def made(function: Callable[..., bytes]) -> Iterator[str]:
    """Yield the keys that a function makes, `<>` for what it is given."""
    given: list[list[Any]] = []
    for each in inspect.signature(function).parameters.values():
        first = SAMPLES.get(each.name, ["<>"])
        given.append(first if each.default is each.empty else [*first, each.default])
    names = [*inspect.signature(function).parameters]
    for values in itertools.product(*given):
        yield function(**dict(zip(names, values, strict=True))).decode()


def in_code() -> dict[str, str]:
    """Return each key of the code, and its type."""
    functions = [each for _, each in inspect.getmembers(keys, inspect.isfunction)]
    found = {
        key: kind(inspect.getdoc(each) or "")
        for each in functions
        if each.__module__ == keys.__name__ and each.__name__ not in NO_KEYS
        for key in made(each)
    }
    comments = dict(_CONSTANT.findall(inspect.getsource(keys)))
    for key in (each.decode() for each in vars(keys).values() if isinstance(each, bytes)):
        if not key.endswith(":"):
            found[key] = kind(comments[key])
        elif not any(each.startswith(key) for each in found):
            found[f"{key}<>"] = kind(comments[key])
    return found | BY_SCRIPTS


def on_page() -> dict[str, str]:
    """Return each key of the page, and its type."""
    found: dict[str, str] = {}
    for row in rows("keys"):
        for name in ("key", 'with `wire = "sidekiq8"`', 'with `"sidekiq7"`'):
            if key := re.fullmatch(r"`(.*)`", row.get(name, "")):
                found[re.sub(r"<\w+>", "<>", key[1].replace("\\|", "|"))] = row["type"]
    return found


def same(key: str) -> str:
    """Return a key as it is at any time: 0 for each number."""
    return re.sub(r"\d+", "0", key)


def form(key: str) -> re.Pattern[str]:
    """Return what real keys look like that stand so on the page."""
    return re.compile(re.escape(same(key)).replace("<>", ".+"))


def test_the_page_has_every_key_with_its_type_and_no_other() -> None:
    assert on_page() == in_code()


def use_more(rig: Rig) -> None:
    """Do what the gallery does not: jobs of passes, a worker that sleeps and is woken, a signal, a witness, a walk."""
    rig.tell(901, delays=[60.0])
    asleep = rig.worker()
    asleep.fetch(50)
    asleep.fetch(1)
    rig.edge(902)
    witness(rig.store, "host:1:bbbb")
    rig.store.ask_for_roll()
    ProcessSet(rig.store).quiet()
    rig.link.close()
    rig.store.close()


def test_each_key_of_a_redis_that_is_in_use_stands_on_the_page(
    redis_url: str, raw: Any, sqlite_url: str
) -> None:
    with gallery(redis_url, sqlite_url):
        use_more(Rig(redis_url, raw))
        found = {key.decode(): raw.type(key).decode() for key in raw.scan_iter(count=1000)}
        processes = {each.decode() for each in raw.smembers("processes")}
    known = [(form(key), each) for key, each in on_page().items() if key != "<>"]

    unknown = {
        (key, each)
        for key, each in found.items()
        if key not in processes
        and not any(each == held and like.fullmatch(same(key)) for like, held in known)
    }

    assert len(found) > 30
    assert unknown == set()
