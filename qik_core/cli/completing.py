"""What a shell completes beside commands and options: queues, job classes, keys of filters. Quickly, or nothing at all.

No application is imported for it: Redis says which queues and classes there are, and the source of the application which
jobs it defines.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import click

from qik_core.api.filters import KEYS
from qik_core.cli import base
from qik_core.errors import QikError
from qik_core.settings import load
from qik_core.store import Store
from qik_core.store.census import census
from qik_core.store.records import Records

_PATIENCE: Final = 0.5
_COUNTED: Final = 2_000
_MOST: Final = 200

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def queues(ctx: click.Context, _: click.Parameter, typed: str) -> list[str]:
    """Return the queues that begin so."""
    return _beginning(typed, _asked(ctx, lambda store: Records(store).queues()))


def jobs(_: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    """Return the jobs of the application that begin so, as its source has them."""
    try:
        app = load().app
    except QikError:
        return []
    return _beginning(typed, [] if app is None else _defined(app))


def filters(ctx: click.Context, _: click.Parameter, typed: str) -> list[str]:
    """Return the keys of filters that begin so; behind `queue:` and `class:` the names."""
    words = [str(each) for each in ctx.params.get("words") or ()]
    if typed == ":":  # bash takes a colon for the end of a word
        words, typed = [*words, ":"], ""
    if words[-1:] == [":"]:
        return _beginning(typed, _names(ctx, words[-2] if len(words) > 1 else ""))
    key, colon, value = typed.partition(":")
    if not colon:
        return _beginning(typed, [f"{each}:" for each in KEYS])
    return [f"{key}:{name}" for name in _beginning(value, _names(ctx, key))]


def _names(ctx: click.Context, key: str) -> Sequence[str]:
    if key == "queue":
        return _asked(ctx, lambda store: Records(store).queues())
    if key == "class":
        return _asked(ctx, lambda store: sorted(census(store.links, _COUNTED).jobs))
    return ()


def _asked(ctx: click.Context, ask: Callable[[Store], Sequence[str]]) -> Sequence[str]:
    try:
        store = base.store(ctx.params.get("redis_url"))
        return base.within(_PATIENCE, lambda: ask(store), "Redis")
    except QikError:
        return ()


def _beginning(typed: str, names: Iterable[str]) -> list[str]:
    """Return names that a shell takes as one word."""
    fits = (name for name in names if name.startswith(typed) and base.is_word(name))
    return [name for name, _ in zip(fits, range(_MOST), strict=False)]


def _defined(app: str) -> list[str]:
    """Return the classes of a module in the current folder that are called jobs by what they derive from."""
    module = Path(*app.partition(":")[0].split("."))
    for path in (module.with_suffix(".py"), module / "__init__.py"):
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, ValueError, SyntaxError):
            continue
        return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and _is_job(node)]
    return []


def _is_job(node: ast.ClassDef) -> bool:
    return any(ast.unparse(each).rpartition(".")[2].endswith("Job") for each in node.bases)
