"""The pages of docs/ and README.md name no command, option, setting or import that is not there."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import pytest

import qik_core.cli
import reconciler.cli
from qik_core import sources
from tests import manual
from tests.test_docs import DOCS, PAGES, blocks

EVERY = {
    path: {opt for each in command.params for opt in (*each.opts, *each.secondary_opts)}
    for name, main in (("qik", qik_core.cli.main), ("reconciler", reconciler.cli.main))
    for path, command in manual.commands(name, main)
}
TEXTS = {name: page for name, page in PAGES.items() if not name.startswith("decisions/")}
TEXTS["../README.md"] = (DOCS.parent / "README.md").read_text(encoding="utf-8")
PLACEHOLDER = {"qik COMMAND --help"}
OTHER_TOML = {"reference/switches.md"}
"""Their TOML is no file of settings."""
_TYPED = re.compile(r"^```(sh|console)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_TOML = re.compile(r"^```toml[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SAID = re.compile(r"`((?:qik|reconciler) [^`]+)`")
_BEFORE = re.compile(r"^\$ |[A-Z_]+=\S+ ")


def lines(page: str) -> Iterator[str]:
    """Yield each command of ours that a page types or names."""
    for shell, text in _TYPED.findall(page):
        typed = [each for each in text.splitlines() if shell == "sh" or each.startswith("$ ")]
        ours = (_BEFORE.sub("", each) for each in typed)
        yield from (each for each in ours if each.startswith(("qik ", "reconciler ")))
    yield from _SAID.findall(page)


def unknown(line: str) -> list[str]:
    """Return the words of a command that are none of its commands or options."""
    words = shlex.split(line.partition(" | ")[0], comments=True)
    path = words[0]
    for each in words[1:]:
        path = f"{path} {each}" if f"{path} {each}" in EVERY else path
    if path not in EVERY:
        return [] if words[1].startswith("-") else words[1:2]
    options = [each.partition("=")[0] for each in words if re.match(r"--?[a-z]", each)]
    return [each for each in options if each not in EVERY[path]]


@pytest.mark.parametrize("name", TEXTS)
def test_the_commands_of_a_page_are_there_with_their_options(name: str) -> None:
    wrong = {line: unknown(line) for line in {*lines(TEXTS[name])} - PLACEHOLDER if unknown(line)}

    assert wrong == {}


def there(module: ModuleType, name: str) -> bool:
    """Whether a module has this name, or a module below it."""
    below = hasattr(module, "__path__") and find_spec(f"{module.__name__}.{name}") is not None
    return below or hasattr(module, name)


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_page_imports_of_us_is_there(name: str) -> None:
    imports = [
        (node.module or "", each.name)
        for block in blocks(TEXTS[name])
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.ImportFrom)
        for each in node.names
    ]

    missing = [
        f"from {module} import {each}"
        for module, each in imports
        if module.partition(".")[0] in ("qik_core", "reconciler")
        and not there(import_module(module), each)
    ]

    assert missing == []


@pytest.mark.parametrize("name", sorted(TEXTS.keys() - OTHER_TOML))
def test_the_settings_of_a_page_are_settings(name: str) -> None:
    problems: list[str] = []
    for text in _TOML.findall(TEXTS[name]):
        table = tomllib.loads(text)
        sources.from_mapping(table.get("tool", {}).get("qik", table), name, problems)

    assert problems == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("qik frob x", ["frob"]),
        ("qik work shop --frob=1 -q mail", ["--frob"]),
        ("qik retries frob class:A --yes", ["--yes"]),
        ("reconciler disable Charge --percent 5 --frob", ["--frob"]),
        ("qik status --json | jq .", []),
    ],
)
def test_a_word_that_no_command_knows_is_found(line: str, words: list[str]) -> None:
    assert unknown(line) == words
