"""What commands share: their options, exit codes, settings, a deadline for answers, questions to a person, tables.

Exit codes: 0 fine · 1 a finding · 2 usage · 3 refused as unsafe · 4 Redis cannot be reached · 5 SQL cannot be reached.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from qik_core.cli.group import UNSAFE
from qik_core.client import open_store
from qik_core.errors import StoreUnavailable
from qik_core.settings import Settings, load, use
from qik_core.store import Store

T = TypeVar("T")

ANSWER: Final = 2.7  # seconds; with the start of Python every command answers within 3

APP_MISSING: Final = """\
no application is named: the module that defines your jobs. Do one of these:
  qik {command} shop.jobs
  export QIK_APP=shop.jobs
  app = "shop.jobs"                    in qik.toml, or under [tool.qik] in pyproject.toml"""

_WORD: Final = re.compile(r"[\w.:@%+=/-]+", re.ASCII)


class TooLong(StoreUnavailable):
    """An answer took longer than a command has time for."""


app = click.argument("app", required=False)
redis_url = click.option("--redis-url", metavar="URL", help="Which Redis.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
queues = click.option(
    "-q",
    "--queue",
    "queues",
    multiple=True,
    metavar="NAME[,WEIGHT]",
    help="A queue to serve; can be repeated.",
)


def load_settings(*, redis_url: str | None = None, **flags: Any) -> Settings:
    """Return the settings of this command, its own flags first; they hold for the application too."""
    settings = load({"redis": redis_url, **flags})
    use(settings)
    return settings


def store(redis_url: str | None) -> Store:
    """Return the Redis of this command; a connection is made when it is first used."""
    return open_store(load_settings(redis_url=redis_url))


def within(seconds: float, ask: Callable[[], T], whom: str) -> T:
    """Return the answer, or fail when it takes too long: each call has a deadline, but there may be many.

    Raises:
        TooLong: no answer in time.
    """
    answers: list[T | BaseException] = []

    def work() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001  raised again where it was asked for
            answers.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answers:
        raise TooLong(f"no answer from {whom} within {seconds:g} s")
    if isinstance(answers[0], BaseException):
        raise answers[0]
    return answers[0]


def confirm(what: str, *, yes: bool) -> None:
    """Let a person confirm; where nobody can, refuse with exit code 3. `yes`: it is confirmed already."""
    if yes:
        return
    if not sys.stdin.isatty():
        click.echo(f"qik: {what}? Nobody is here to ask: add --yes", err=True)
        sys.exit(UNSAFE)
    click.confirm(f"{what}?", abort=True, err=True)


def is_word(text: str) -> bool:
    """Whether a shell takes this for one word as it stands."""
    return _WORD.fullmatch(text) is not None


def span(seconds: float) -> str:
    """Return a span of time for people."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
