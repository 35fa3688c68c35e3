"""What commands share: their options, exit codes, settings, a deadline for answers, tables.

Exit codes: 0 fine · 1 a finding · 2 usage · 3 refused as unsafe · 4 Redis cannot be reached · 5 SQL cannot be reached.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from qik_core.errors import StoreUnavailable
from qik_core.settings import Settings, load, use

T = TypeVar("T")

ANSWER: Final = 2.7  # seconds; with the start of Python every command answers within 3

APP_MISSING: Final = """\
no application is named: the module that defines your jobs. Do one of these:
  qik {command} shop.jobs
  export QIK_APP=shop.jobs
  app = "shop.jobs"                    in qik.toml, or under [tool.qik] in pyproject.toml"""


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


def within(seconds: float, ask: Callable[[], T], whom: str) -> T:
    """Return the answer, or fail when it takes too long: each call has a deadline, but there may be many.

    Raises:
        StoreUnavailable: no answer in time.
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
        raise StoreUnavailable(f"no answer from {whom} within {seconds:g} s")
    if isinstance(answers[0], BaseException):
        raise answers[0]
    return answers[0]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their heads."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*heads, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    # What comes from Redis is shown as it is: `[/b]` is no markup, `:100:` no picture.
    Console(soft_wrap=True, markup=False, emoji=False).print(table)
