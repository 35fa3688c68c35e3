"""The `qik` command. A command's own module is imported when it runs: help costs only click.

Exit codes: 0 fine · 1 a finding · 2 usage · 3 refused as unsafe · 4 Redis cannot be reached · 5 SQL cannot be reached.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

import click

from qik_core.errors import QikError, StoreError

USAGE: Final = 2
NO_REDIS: Final = 4

COMMANDS: Final = {
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


class Commands(click.Group):
    """The group of commands: loads the one that is wanted, turns errors into messages and exit codes."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command itself, where the group only knows its name and help."""
        name, known, rest = super().resolve_command(ctx, args)
        return name, known and command(str(name)), rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except QikError as error:
            click.echo(f"qik: {error}", err=True)
            ctx.exit(NO_REDIS if isinstance(error, StoreError) else USAGE)


def command(name: str) -> click.Command:
    """Return a command, loaded."""
    found: click.Command = getattr(import_module(f"qik_core.cli.{COMMANDS[name][0]}"), name)
    return found


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


_KNOWN: Final = {name: click.Command(name, short_help=told) for name, (_, told) in COMMANDS.items()}


@click.group(
    cls=Commands, commands=_KNOWN, context_settings={"help_option_names": ["-h", "--help"]}
)
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
