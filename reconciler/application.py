"""The application's module: imported, so that its jobs and reconcilers are known."""

from __future__ import annotations

from qik_core import application
from qik_core.errors import SettingsError
from reconciler import registry
from reconciler.definition import Definition


def reconcilers(app: str) -> list[Definition]:
    """Import the application; return its reconcilers, by name.

    Raises:
        SettingsError: it cannot be imported, or defines no reconciler.
    """
    application.load(app)
    found = registry.everything()
    if not found:
        raise SettingsError(
            f"app {app!r} defines no reconciler: import the modules with your `class X(Reconciler, …)` in it"
        )
    return found
