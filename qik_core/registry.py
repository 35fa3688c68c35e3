"""Names to definitions. A payload can only ever name what is in here: nothing is imported because Redis says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from qik_core import flags
from qik_core.definition import Definition
from qik_core.errors import DefinitionError
from qik_core.switches import flag_of_class, flag_of_queue

_lock = threading.Lock()
_definitions: dict[str, Definition] = {}


def register(definition: Definition) -> None:
    """Make a definition known by its name and its aliases. Defining the same class again replaces it.

    Raises:
        DefinitionError: another class has one of the names, or something else has its kill switch.
    """
    with _lock:
        for name in (definition.name, *definition.aliases):
            there = _definitions.get(name)
            if there is not None and there.origin != definition.origin:
                raise DefinitionError(
                    f"two jobs are called {name!r}: {_place(there)} and {_place(definition)}: "
                    "give one of them another name, as in class X(Job, name='Billing::X')"
                )
        flags.claim(flag_of_class(definition.name), f"the job {definition.name!r}")
        flags.claim(flag_of_queue(definition.queue), f"the queue {definition.queue!r}")
        for name in [name for name, there in _definitions.items() if _again(there, definition)]:
            del _definitions[name]  # an alias that the new definition may not have any more
        for name in (definition.name, *definition.aliases):
            _definitions[name] = definition


def find(name: str) -> Definition | None:
    """Return the definition of this name or alias, None if no imported module defines it."""
    return _definitions.get(name)


def names() -> list[str]:
    """Return the registered names, without aliases, in order."""
    with _lock:
        return sorted({definition.name for definition in _definitions.values()})


@contextmanager
def scope(*, empty: bool = False) -> Iterator[None]:
    """Forget at the end whatever was registered inside: for tests that define jobs of their own.

    `empty` hides what was registered before, so that any name is free.
    """
    with _lock:
        before = dict(_definitions)
        if empty:
            _definitions.clear()
    try:
        with flags.scope(empty=empty):
            yield
    finally:
        with _lock:
            _definitions.clear()
            _definitions.update(before)


def _again(there: Definition, definition: Definition) -> bool:
    return (there.name, there.origin) == (definition.name, definition.origin)


def _place(definition: Definition) -> str:
    file, qualified = definition.origin
    return f"{qualified} in {file}"
