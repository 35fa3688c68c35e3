"""What commands share that talk to a person: who it is, whether they mean it, how they write a span of time."""

from __future__ import annotations

import getpass
import socket
import sys

import click

from qik_core.cli.group import UNSAFE
from reconciler.words import span_of


def span_option(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> float | None:
    """Return the seconds of an option: its `callback=`."""
    try:
        return None if value is None else span_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def who() -> str:
    """Return who runs this command, `user@host`, for the audit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        user = "?"
    return f"{user}@{socket.gethostname()}"[:200]


def confirm(what: str, *, yes: bool) -> None:
    """Let a person confirm; where nobody can, refuse with exit code 3. `yes`: it is confirmed already."""
    if yes:
        return
    if not _is_somebody_there():
        click.echo(f"reconciler: {what}? Add --yes", err=True)
        sys.exit(UNSAFE)
    click.confirm(f"{what}?", abort=True, err=True)


def _is_somebody_there() -> bool:
    return sys.stdin.isatty()
