"""From the settings to the providers of a process; the library of a flag service is imported only where one is named."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

from sqlalchemy import Engine

from qik_core.passes import Passes
from qik_core.settings import Settings, current
from reconciler.sql import where
from reconciler.switches.file import File
from reconciler.switches.kept import Kept
from reconciler.switches.naming import of_application
from reconciler.switches.provider import Provider
from reconciler.switches.remembered import Remembered
from reconciler.switches.switchboard import Changed, Switchboard


def folder(settings: Settings) -> Path | None:
    """Return the folder for what was known last: as set, else below the user's cache folder; None without a home."""
    if settings.switches.cache is not None:
        return Path(settings.switches.cache)
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        below = Path(base) if base.startswith("/") else Path.home() / ".cache"
    except RuntimeError:  # a container may run as a number without a home
        return None
    return below / "qik" / "switches"


def providers(settings: Settings) -> list[Provider]:
    """Return the providers that the settings name, beside SQL; none has begun to look."""
    made: list[Provider] = []
    named = settings.switches
    if named.file is not None:
        made.append(File(Path(named.file), lambda: of_application().flags()))
    if named.unleash_url is not None:
        made.append(_unleash(settings))
    return made


def switchboard(home: Engine, seam: Passes, holder: str, changed: Changed) -> Switchboard:
    """Return the switchboard of a process by its settings; it has not begun."""
    settings = current()
    kept = remembered(settings, home)
    return Switchboard(home, seam, providers(settings), holder, changed, kept)


def remembered(settings: Settings, home: Engine) -> Remembered:
    """Return what was known last of this application, whose tables are in `home`."""
    mine = blake2b(f"{settings.app} {where(home)}".encode(), digest_size=8).hexdigest()
    below = folder(settings)
    return Remembered(None if below is None else Kept(below, f"{mine}.json"))


def _unleash(settings: Settings) -> Provider:
    from reconciler.switches.unleash import Unleash

    named = settings.switches
    assert named.unleash_url is not None  # noqa: S101 - asked by who calls
    return Unleash(
        named.unleash_url,
        named.unleash_token or "",
        named.unleash_app,
        refresh=named.unleash_refresh,
        folder=folder(settings),
    )
