"""What commands share: their options, exit codes, settings, questions with a deadline.

Exit codes: 0 fine · 1 a finding · 2 usage · 3 refused as unsafe · 4 Redis cannot be reached · 5 SQL cannot be
reached, or lacks our tables.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, NoReturn, TypeVar

import click

from qik_core import logs
from qik_core.cli import group
from qik_core.cli.group import NO_SQL
from qik_core.errors import SettingsError
from qik_core.passes import Passes
from qik_core.settings import Settings, current, load, use
from reconciler import asking
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.errors import NotMigrated, SqlUnavailable
from reconciler.sql import read_clock
from reconciler.units import place_of

T = TypeVar("T")

ANSWER: Final = 2.3
"""Seconds for what a command asks; with the start of Python it answers within 3."""

_APP_MISSING: Final = """\
no application is named: the module that defines your reconcilers. Do one of these:
  reconciler {command} shop.jobs
  export QIK_APP=shop.jobs
  app = "shop.jobs"                    in qik.toml, or under [tool.qik] in pyproject.toml"""
_REDIS_MISSING: Final = """\
no Redis is named. Do one of these:
  export REDIS_URL=redis://host:6379/0
  redis = "redis://host:6379/0"        in qik.toml, or under [tool.qik] in pyproject.toml"""


def code_of(error: Exception | None) -> int:
    """Return the exit code that an error stands for."""
    if isinstance(error, (SqlUnavailable, NotMigrated)):
        return NO_SQL
    return group.code_of(error)


app = click.argument("app", required=False)
app_option = click.option("--app", metavar="MODULE", help="The module that defines reconcilers.")
database_url = click.option("--database-url", metavar="URL", help="Where our own tables live.")
redis_url = click.option("--redis-url", metavar="URL", help="Which Redis.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


class Asked(asking.Asked[T]):
    """A question that is asked on a thread of its own, and what came of it within so many seconds."""

    def __init__(self, ask: Callable[[], T], seconds: float = ANSWER) -> None:
        super().__init__(ask, time.monotonic() + seconds)


def load_settings(
    *, redis_url: str | None = None, database_url: str | None = None, **flags: Any
) -> Settings:
    """Return the settings of this command, its own flags first; they hold for the application too."""
    databases = None if database_url is None else {"default": database_url}
    settings = load({"redis": redis_url, "databases": databases, **flags})
    use(settings)
    return settings


def with_redis() -> Settings:
    """Return the settings as the application may have changed them; a Redis must be named."""
    settings = current()
    if settings.origin("redis") == "default":
        raise SettingsError(_REDIS_MISSING)
    return settings


def reconcilers(settings: Settings, command: str) -> Sequence[Definition]:
    """Return the reconcilers of the application; `command` is how an example of its use begins."""
    from reconciler import application

    return application.reconcilers(check_app(settings, command))


def in_shard(definition: Definition, shard: str | None, engines: Engines) -> Definition:
    """Return the part of a reconciler that `--shard` names; itself for one without shards.

    Raises:
        UsageError: it has shards and none is named, or the other way round.
    """
    if definition.shards is None:
        if shard is not None:
            raise click.UsageError(f"{definition.name} has no shards: leave --shard out")
        return definition
    if shard is None:
        there = ", ".join(engines.shards(definition)) or "none"
        raise click.UsageError(f"say in which shard of {definition.name}: --shard, of {there}")
    return definition.in_shard(shard)


def check_app(settings: Settings, command: str) -> str:
    """Return the name of the application.

    Raises:
        UsageError: none is named.
    """
    if settings.app is None:
        raise click.UsageError(_APP_MISSING.format(command=command))
    return settings.app


def engines(settings: Settings) -> Engines:
    """Return the databases that the settings name."""
    return Engines(settings.databases)


def seam() -> Passes:
    """Return the engine's seam on the Redis of the settings."""
    return Passes()


def reach(engines: Engines, wanted: Iterable[Definition]) -> dict[str, Exception]:
    """Ask the databases of reconcilers for their time, all at once; return place → error of those that do not answer."""
    places = {place_of(each): each for each in wanted}
    asked = {name: Asked(partial(_clock, engines, each)) for name, each in places.items()}
    failed: dict[str, Exception] = {}
    for name, question in asked.items():
        question.answer(SqlUnavailable, f"database {name!r}")
        if question.error is not None:
            failed[name] = question.error
    return failed


def _clock(engines: Engines, definition: Definition) -> float:
    return read_clock(engines.of(definition))


def leave(code: int) -> NoReturn:
    """End with this exit code at once: a thread that still waits for an answer must not hold up the end."""
    logs.finish()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
