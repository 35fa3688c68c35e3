"""What the commands `qik` and `reconciler` are made of: a group that loads the one command that is wanted.

Exit codes: 0 fine · 1 a finding · 2 usage · 3 refused as unsafe · 4 Redis cannot be reached · 5 SQL cannot be reached or used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

import click

from qik_core.errors import QikError, StoreError

FINDING: Final = 1
USAGE: Final = 2
UNSAFE: Final = 3
NO_REDIS: Final = 4
NO_SQL: Final = 5

Commands = Mapping[str, tuple[str, str]]
"""Each command's module inside the package, and its help in one line."""


def code_of(error: Exception | None) -> int:
    """Return the exit code that an error of the engine stands for."""
    return NO_REDIS if isinstance(error, StoreError) else USAGE


class Lazy(click.Group):
    """A group that knows its commands by name and help, so that `--help` costs only click. Errors become messages."""

    def __init__(
        self,
        *args: Any,
        prog: str,
        package: str,
        known: Commands,
        code: Callable[[QikError], int] = code_of,
        **options: Any,
    ) -> None:
        """Take how people call it, the package of the commands' modules, and what exit code an error stands for."""
        super().__init__(*args, context_settings={"help_option_names": ["-h", "--help"]}, **options)
        self._prog = prog
        self._package = package
        self._known = known
        self._code = code
        for name, (_, told) in known.items():
            self.add_command(click.Command(name, short_help=told))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command itself, where the group only knows its name and help."""
        name, known, rest = super().resolve_command(ctx, args)
        return name, known and self.loaded(str(name)), rest

    def loaded(self, name: str) -> click.Command:
        """Return a command from its module."""
        module = import_module(f"{self._package}.{self._known[name][0]}")
        commands = (each for each in vars(module).values() if isinstance(each, click.Command))
        return next(each for each in commands if each.name == name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except QikError as error:
            click.echo(f"{self._prog}: {error}", err=True)
            ctx.exit(self._code(error))
