"""What the commands `qik` and `reconciler` are made of: a group that loads the one command that is wanted.

Exit codes: 0 fine · 1 a finding · 2 usage · 3 refused as unsafe · 4 Redis cannot be reached · 5 SQL cannot be reached or used.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from qik_core.errors import QikError, StoreError

FINDING: Final = 1
USAGE: Final = 2
UNSAFE: Final = 3
NO_REDIS: Final = 4
NO_SQL: Final = 5

COMPLETION: Final = """Print what bash, zsh or fish need to complete commands.

\b
bash: eval "$({prog} completion bash)"               in ~/.bashrc
zsh:  eval "$({prog} completion zsh)"                in ~/.zshrc, behind compinit
fish: {prog} completion fish | source                in ~/.config/fish/config.fish"""

log_format = click.option(
    "--log-format",
    type=click.Choice(["auto", "pretty", "plain", "json"]),
    help="The form of log lines (auto: pretty on a terminal, else plain).",
)

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


class Verbs(click.Group):
    """A group that lists when no verb is said: `qik retries class:Charge` is `qik retries list class:Charge`."""

    def __init__(self, *args: Any, searching: str = "list", **options: Any) -> None:
        """Take which verb searches."""
        super().__init__(*args, **options)
        self._searching = searching

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` before what begins with no verb.

        Raises:
            UsageError: it begins with a word that is nearly a verb.
        """
        first = args[0] if args else ""
        if ctx.resilient_parsing and not args:
            return super().parse_args(ctx, args)  # a shell wants to know what could follow
        if first not in self.commands and first not in ctx.help_option_names:
            near = difflib.get_close_matches(first, self.commands, n=1, cutoff=0.7)
            if near and not ctx.resilient_parsing:
                search = f"To search for the word, write: {self._searching} {first}"
                said = f"did you mean {near[0]!r}? {search}"
                raise click.UsageError(f"there is no verb {first!r}: {said}", ctx)
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Return verbs, and what may follow `list`, which need not be said."""
        items = super().shell_complete(ctx, incomplete)
        for each in self.commands["list"].params:
            if isinstance(each, click.Argument):
                items += each.shell_complete(ctx, incomplete)
        return items


def completion(prog: str) -> click.Command:
    """Return the command that prints what a shell needs to complete `prog`."""

    @click.command("completion")
    @click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
    @click.pass_context
    def command(ctx: click.Context, shell: str) -> None:
        made = get_completion_class(shell)
        assert made is not None  # noqa: S101 - click has these three
        variable = f"_{prog.upper()}_COMPLETE"
        click.echo(made(ctx.find_root().command, {}, prog, variable).source())

    command.help = COMPLETION.format(prog=prog)
    return command
