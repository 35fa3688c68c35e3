"""The application: the module that defines jobs. It is looked for without being run, and imported with a readable error."""

from __future__ import annotations

import importlib
import importlib.util
import shlex
import sys
import traceback
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

from qik_core import registry, rows
from qik_core.definition import Definition
from qik_core.errors import SettingsError

_SHOWN: Final = 20  # frames of the application's traceback
_USERS: Final = 3  # names that a queue is shown with


def check(name: str) -> None:
    """Look for the top-level package of an application without running any of it.

    Raises:
        SettingsError: nothing of this name can be imported from here.
    """
    _see_the_current_folder()
    _refuse_files(name)
    top = _module(name).partition(".")[0]
    if importlib.util.find_spec(top) is None:
        raise SettingsError(
            f"app {name!r}: there is no module {top!r} in {Path.cwd()} nor installed beside {sys.executable}. "
            "Start in the folder that contains it, install it, or correct the name"
        )


def load(name: str) -> None:
    """Import an application, so that its jobs are registered. The current folder is looked at first.

    Raises:
        SettingsError: it cannot be imported; the message ends with the application's own traceback.
    """
    _see_the_current_folder()
    _refuse_files(name)
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise SettingsError(_failed(name, error)) from None
        raise SettingsError(
            f"app {name!r}: there is no module {error.name!r}. Start in the folder that contains it "
            f"(this is {Path.cwd()}), install it, or correct the name"
        ) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001  anything an application may do
        raise SettingsError(_failed(name, error)) from None
    if attribute and not hasattr(found, attribute):
        raise SettingsError(f"app {name!r}: {module} has no {attribute!r}. Name the module alone")


def jobs() -> list[Definition]:
    """Return every job that the imported modules define, by name."""
    return [found for name in registry.names() if (found := registry.find(name)) is not None]


def unserved(served: Container[str]) -> dict[str, list[str]]:
    """Return queue → who uses it, for queues of the application's jobs and reconcilers that are not `served`."""
    found: dict[str, set[str]] = {}
    for each in jobs():
        for queue in (each.queue, each.fields.get("retry_queue")):
            if queue is not None and queue not in served:
                found.setdefault(queue, set()).add(each.name)
    for name, queue in rows.queues_told().items():
        if queue not in served:
            found.setdefault(queue, set()).add(name)
    return {queue: sorted(users) for queue, users in sorted(found.items())}


def named(unserved: Mapping[str, Sequence[str]]) -> str:
    """Return these queues for a sentence, each with who uses it."""
    return ", ".join(
        f"{queue} ({', '.join(users[:_USERS])}{', …' if len(users) > _USERS else ''})"
        for queue, users in unserved.items()
    )


def _module(name: str) -> str:
    return name.partition(":")[0]


def _refuse_files(name: str) -> None:
    if name.endswith(".py"):
        module = name.removesuffix(".py").strip("./").replace("/", ".")
        raise SettingsError(f"app {name!r} names a file; did you mean the module {module!r}?")


def _see_the_current_folder() -> None:
    """Let `shop.jobs` be found beside where the command was typed, as `python -m` would."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _failed(name: str, error: BaseException) -> str:
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    lines = traceback.format_list(traceback.extract_tb(_own_part(error.__traceback__))[-_SHOWN:])
    again = (
        f"Correct it; `{shlex.quote(sys.executable)} -c 'import {_module(name)}'` shows the same"
    )
    shown = "".join(lines).rstrip()  # a module that is no Python has no line that ran
    return "\n".join(filter(None, (f"app {name!r} cannot be imported: {what}", shown, again)))


def _own_part(trace: TracebackType | None) -> TracebackType | None:
    """Skip the frames of this file and of the import system: the rest is the application's."""
    while trace is not None and _is_machinery(trace.tb_frame):
        trace = trace.tb_next
    return trace


def _is_machinery(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file in (__file__, importlib.__file__) or file.startswith("<frozen importlib")
