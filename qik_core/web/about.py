"""The pages about the process of the dashboard and its Redis: what `qik config` and `qik doctor` print."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from qik_core import registry
from qik_core.checkup import Checkup
from qik_core.doctor import no_jobs
from qik_core.settings import current
from qik_core.store.inspection import inspect
from qik_core.store.link import Hurried
from qik_core.web.asked import Ask, View
from qik_core.web.showing import cut

ANSWER: Final = 2.0
"""Seconds for everything that an examination asks; a connection may take one more."""
_TEXT: Final = 2_000
_MOST: Final = 500


def settings(_: Ask) -> View:
    """Show every setting of this process, its value and where it came from; no secrets."""
    return View("settings.html", "Settings", {"settings": short(current().told())})


def doctor(ask: Ask, now: Callable[[], float] = time.time) -> View:
    """Show what is wrong with Redis, the settings and the application, and when that was."""
    # No application is imported for a page: it is there already, or nobody named one.
    here, jobs = current(), sorted(registry.names())
    of_app = [no_jobs(here.app)] if here.app and not jobs else []
    link = Hurried(ask.store.url, seconds=ANSWER)
    try:
        facts = inspect(link)
    finally:
        link.close()
    found = Checkup.of(facts, here, jobs, of_app)
    at = datetime.fromtimestamp(now(), UTC)
    return View("doctor.html", "Doctor", {**short(found.as_json()), "examined_at": at})


def short(value: Any) -> Any:
    """Return plain data with every text and every table cut: anybody may have written into Redis."""
    if isinstance(value, str):
        return cut(value, _TEXT)
    if isinstance(value, Mapping):
        return {cut(name, _TEXT): short(each) for name, each in islice(value.items(), _MOST)}
    if isinstance(value, (list, tuple)):
        return [short(each) for each in value[:_MOST]]
    return value
