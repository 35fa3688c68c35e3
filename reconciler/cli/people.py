"""What commands share that talk to a person: who it is, whether they mean it, how they write a span of time."""

from __future__ import annotations

import getpass
import re
import socket
import sys
from typing import Final

import click

from qik_core.cli.group import UNSAFE

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|m|h|d)", re.ASCII)
_UNITS: Final = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_LONGEST: Final = 10 * 366 * 86_400.0


def span_of(text: str) -> float:
    """Return a span of time in seconds: `90s`, `15min`, `2h`, `1.5d`.

    Raises:
        BadParameter: it is none, or longer than ten years.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no span of time: write 90s, 15min, 2h or 3d")
    seconds = float(found[1]) * _UNITS[found[2]]
    if seconds > _LONGEST:
        raise click.BadParameter(f"{text!r} is longer than ten years")
    return seconds


def span_option(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> float | None:
    """Return the seconds of an option: its `callback=`."""
    return None if value is None else span_of(value)


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
