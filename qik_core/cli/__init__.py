"""The `qik` command. A command's own module is imported when it runs: help costs only click.

Exit codes: 0 fine · 1 a finding · 2 usage · 3 refused as unsafe · 4 Redis cannot be reached · 5 SQL cannot be reached.
"""

from __future__ import annotations

import sys
from typing import Final

import click

from qik_core.cli.group import Commands, Lazy

COMMANDS: Final[Commands] = {
    "busy": ("running", "List the jobs that run, those first that have run longest."),
    "cancel": ("act", "Cancel one job, wherever it is."),
    "completion": ("completion", "Print what bash, zsh or fish need to complete commands."),
    "config": ("look", "Print every setting, its value and where it came from."),
    "dead": ("places", "Jobs that will not be tried again."),
    "deploy-mark": (
        "act",
        "Mark that a release was deployed now, for the charts of the dashboard.",
    ),
    "dev": (
        "work",
        "Run everything for development: a server, a database, a worker, the reconcilers, the dashboard.",
    ),
    "doctor": ("look", "Examine Redis, the settings and the application; say what is wrong."),
    "enqueue": ("push", "Push one job, its arguments read as perform is annotated."),
    "held": (
        "places",
        "Jobs whose class or queue is switched off and that no reconciler tells.",
    ),
    "pause": ("act", "Stop fetching from a queue, in all processes."),
    "processes": (
        "running",
        "List the worker processes, Ruby's among them, those first that are busiest.",
    ),
    "queues": ("places", "Queues with their sizes; `jobs` lists what is on them."),
    "quiet": ("act", "Let processes finish what they run and fetch no more."),
    "resume": ("act", "Fetch from a paused queue again."),
    "retries": ("places", "Failed jobs that wait for their next try."),
    "scheduled": ("places", "Jobs that were pushed for later, by the application or by passes."),
    "status": ("look", "Print queues with their sizes, processes and the epoch."),
    "stop": ("act", "Let processes stop as TERM does."),
    "top": (
        "top",
        "Show what happens now: rates, queues by depth and latency, jobs that run longest.",
    ),
    "web": ("web", "Serve the dashboard."),
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
