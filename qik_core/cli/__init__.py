"""The `qik` command. A command's own module is imported when it runs: help costs only click.

Exit codes: 0 fine · 1 a finding · 2 usage · 3 refused as unsafe · 4 Redis cannot be reached · 5 SQL cannot be reached.
"""

from __future__ import annotations

import sys
from typing import Final

import click

from qik_core.cli.group import Commands, Lazy

COMMANDS: Final[Commands] = {
    "cancel": ("act", "Cancel one job, wherever it is."),
    "config": ("look", "Print every setting, its value and where it came from."),
    "dev": (
        "work",
        "Run everything for development: a server, a database, a worker, the reconcilers.",
    ),
    "doctor": ("look", "Examine Redis, the settings and the application; say what is wrong."),
    "enqueue": ("push", "Push one job."),
    "pause": ("act", "Stop fetching from a queue, in all processes."),
    "quiet": ("act", "Let processes finish what they run and fetch no more."),
    "resume": ("act", "Fetch from a paused queue again."),
    "status": ("look", "Print queues with their sizes, processes and the epoch."),
    "stop": ("act", "Let processes stop as TERM does."),
    "work": ("work", "Run jobs."),
}
"""Each command's module, and its help as it stands there."""


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: object) -> None:
    if not wanted:
        return
    from importlib import metadata

    try:
        version = metadata.version("qik-core")
    except metadata.PackageNotFoundError:
        version = "from a checkout"
    click.echo(f"qik-core {version}, Python {sys.version.split()[0]}")
    ctx.exit()


@click.group(cls=Lazy, prog="qik", package=__name__, known=COMMANDS)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
def main() -> None:
    """Run and look at background jobs."""
