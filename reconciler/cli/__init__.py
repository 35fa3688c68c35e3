"""The `reconciler` command. A command's own module is imported when it runs; commands that need no application do not import it.

Exit codes: 0 fine · 1 a finding · 2 usage · 3 refused as unsafe · 4 Redis cannot be reached · 5 SQL cannot be reached.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

from qik_core.errors import QikError

COMMANDS: Final = {
    "lint": ("lint", "Find what jobs and reconcilers could do wrong, before they do."),
    "pass": ("work", "Run one pass of the reconciler NAME now."),
    "plan": ("plan", "Say what passes would do. Writes nothing."),
    "run": ("work", "Run the reconcilers of APP until TERM."),
    "status": ("look", "Show every reconciler: who runs it, how its last pass ended."),
    "upgrade": ("work", "Make our tables, or move them on to this release."),
}
"""Each command's module, and its help in one line."""


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
            from reconciler.cli.base import code_of

            click.echo(f"reconciler: {error}", err=True)
            ctx.exit(code_of(error))


def command(name: str) -> click.Command:
    """Return a command, loaded."""
    module = import_module(f"reconciler.cli.{COMMANDS[name][0]}")
    found: click.Command = getattr(module, "pass_" if name == "pass" else name)
    return found


_KNOWN: Final = {name: click.Command(name, short_help=told) for name, (_, told) in COMMANDS.items()}


@click.group(
    cls=Commands, commands=_KNOWN, context_settings={"help_option_names": ["-h", "--help"]}
)
def main() -> None:
    """Tell again what SQL says is pending."""
