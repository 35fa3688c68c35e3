"""Names to reconcilers: everything that the imported modules define."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

from qik_core import flags
from qik_core.switches import flag_of_reconciler
from reconciler.definition import Definition
from reconciler.errors import Rule, UnknownReconciler, broken
from reconciler.words import meant

_lock: Final = Lock()
_definitions: Final[dict[str, Definition]] = {}
_telling: Final[dict[str, tuple[Definition, ...]]] = {}
"""By job class, for those that have been asked for; forgotten when a definition comes or goes."""


def register(definition: Definition) -> None:
    """Make a reconciler known by its name. Defining the same class again replaces it.

    Raises:
        DefinitionError: another class has the name, or something else has its kill switch.
    """
    with _lock:
        there = _definitions.get(definition.name)
        if there is not None and there.origin != definition.origin:
            raise broken(
                definition.origin[1],
                Rule.NAME_CLASH,
                f"two reconcilers are called {definition.name!r}: {there.origin[1]} in {there.origin[0]} "
                f"and {definition.origin[1]} in {definition.origin[0]}",
                "Give one of them another name: name='billing.OpenInvoices'",
            )
        flags.claim(flag_of_reconciler(definition.name), f"the reconciler {definition.name!r}")
        _definitions[definition.name] = definition
        _telling.clear()


def find(name: str) -> Definition:
    """Return the reconciler of this name.

    Raises:
        UnknownReconciler: no imported module defines it.
    """
    with _lock:
        if name in _definitions:
            return _definitions[name]
        known = sorted(_definitions)
    raise UnknownReconciler(
        f"no reconciler is called {name!r}{meant(name, known)}; there are: {', '.join(known) or 'none'}. "
        "Is the module that defines it imported by your app?"
    )


def everything() -> list[Definition]:
    """Return all reconcilers of the imported modules, by name."""
    with _lock:
        return [_definitions[name] for name in sorted(_definitions)]


def telling(job: str) -> tuple[Definition, ...]:
    """Return the reconcilers of a job class, by name; quick enough to be asked for every job."""
    found = _telling.get(job)
    if found is None:
        with _lock:
            found = tuple(
                each for _, each in sorted(_definitions.items()) if each.facts.name == job
            )
            _telling[job] = found
    return found


@contextmanager
def scope() -> Iterator[None]:
    """Forget at the end whatever was defined inside: for tests that define reconcilers of their own."""
    with _lock:
        before = dict(_definitions)
    try:
        with flags.scope():
            yield
    finally:
        with _lock:
            _definitions.clear()
            _definitions.update(before)
            _telling.clear()
