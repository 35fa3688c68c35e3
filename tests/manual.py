"""docs/reference/commands.md, made from the commands themselves: `python -m tests.manual`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from inspect import cleandoc
from pathlib import Path
from textwrap import fill as wrapped

import click

import qik_core.cli
import reconciler.cli
from qik_core.cli.group import Lazy

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "commands.md"
_WIDTH = 125
fill = partial(wrapped, break_long_words=False, break_on_hyphens=False)
_HEAD = """\
# Commands

This page is made from the commands: `python -m tests.manual` writes it, and a test compares it with them. `qik COMMAND --help`
says the same.

What a command needs it finds like every process: a flag wins over the environment, the environment over `qik.toml` or
`[tool.qik]` in `pyproject.toml`; `qik config` prints what holds, and why. Only commands that take an APP import an application.

**Exit codes.** 0: fine. 1: a finding, or nothing was meant. 2: usage. 3: refused as unsafe, as when nobody is there to confirm.
4: Redis cannot be reached. 5: SQL cannot be reached, or lacks our tables.

**`--json`** prints one object, or with `top` and `status --watch` one a line. Progress and remarks go to standard error.

**FILTER** is how jobs are chosen, here and by programs: `class:Charge error:TimeoutError args:42 -queue:low "card declined"`.
Every word must hold; `-` turns one round, `*` stands for any characters, a word without a key is searched for in everything
that people see of a job. The keys: `args`, `class`, `error`, `jid`, `queue`, `state`, `tag`. A shell takes quotes away: write
`'"card declined"'`; and before a word that begins with `-`, write `--`.

**Lists** answer within a second, however much there is: they show a part, say how far they looked, and `--limit` and
`--patience` let them go further. For `jid:…` alone, and for `show`, the server looks, 2 seconds long. **Verbs** (`retry`,
`delete`, `bury`, `advance`) count by class what is meant, ask, and say what became of each job: done, moved on meanwhile, or
blocked because another job holds its key. `--dry-run` only counts, `--yes` asks nobody. When Redis goes away in between, the
same command again does the rest: nothing is done twice.

**Completion:** `eval "$(qik completion bash)"`, the same with zsh; `qik completion fish | source`. Nothing is imported for it.
"""


def page() -> str:
    """Return the page as it should be."""
    parts = [_HEAD]
    for name, main in (("qik", qik_core.cli.main), ("reconciler", reconciler.cli.main)):
        parts.append(f"## {name}\n\n{_table(main)}\n")
        parts += [_section(path, command) for path, command in commands(name, main)]
    return "\n".join(parts)


def commands(name: str, main: click.Group) -> Iterator[tuple[str, click.Command]]:
    """Yield every command by what is typed, groups before what is in them."""
    assert isinstance(main, Lazy)
    for word in sorted(main.commands):
        yield from _below(f"{name} {word}", main.loaded(word))


def _below(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for word in sorted(command.commands):
            yield from _below(f"{path} {word}", command.commands[word])


def _table(main: click.Group) -> str:
    rows = [f"| `{name}` | {each.short_help} |" for name, each in sorted(main.commands.items())]
    return "\n".join(["| command | |", "|---|---|", *rows])


def _section(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    parts = [f"### {path}", f"`{usage}`", _told(command.help or "")]
    options = [
        each.get_help_record(context) for each in command.params if isinstance(each, click.Option)
    ]
    rows = [f"| `{names}` | {told} |" for names, told in filter(None, options)]
    if rows:
        parts.append("\n".join(["| option | |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _told(text: str) -> str:
    """Return a help as a page has it, in lines that fit; what is to stay in its lines becomes a block."""
    return "\n\n".join(
        "```\n" + each.removeprefix("\b\n") + "\n```"
        if each.startswith("\b\n")
        else fill(each, _WIDTH)
        for each in cleandoc(text).split("\n\n")
    )


if __name__ == "__main__":
    sys.stdout.write(f"{PAGE.write_text(page(), encoding='utf-8'):,} characters\n")
