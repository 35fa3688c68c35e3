"""The application's module: imported, so that its jobs and reconcilers are known; an error that a person can use."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

from qik_core.errors import SettingsError
from reconciler import definition
from reconciler.definition import Definition


def reconcilers(app: str) -> list[Definition]:
    """Import the application; return its reconcilers, by name.

    Raises:
        SettingsError: it cannot be imported, or defines no reconciler.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module = app.partition(":")[0]
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise SettingsError(_why(app, module, error)) from error
    found = definition.everything()
    if not found:
        raise SettingsError(
            f"app {app!r} defines no reconciler: import the modules with your `class X(Reconciler, …)` in {module}"
        )
    return found


def _why(app: str, module: str, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        return (
            f"app {app!r}: there is no module {error.name!r} in {Path.cwd()}. Start in the folder that contains it, "
            "install it, or correct the name"
        )
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        each for each in frames if each.filename != __file__ and "importlib" not in each.filename
    ]
    shown = "".join(traceback.format_list(own[-10:])).rstrip()
    return f"app {app!r} cannot be imported: {type(error).__name__}: {error}\n{shown}"
