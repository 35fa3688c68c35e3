"""The `reconciler` command. A command's own module is imported when it runs; commands that need no application do not import it.

Exit codes: 0 fine · 1 a finding · 2 usage · 3 refused as unsafe · 4 Redis cannot be reached · 5 SQL cannot be reached or used.
"""

from __future__ import annotations

from typing import Final

import click

from qik_core.cli.group import Commands, Lazy
from qik_core.errors import QikError

COMMANDS: Final[Commands] = {
    "completion": ("completion", "Print what bash, zsh or fish need to complete commands."),
    "disable": ("switch", "Stop a job class, a reconciler or a queue."),
    "drill": ("drill", "Break a scratch Redis in every way, and prove that nothing is lost."),
    "enable": ("switch", "Let work run again that was switched off."),
    "export": ("export", "Write jobs into a file, and leave them where they are."),
    "flush": ("flush", "Take jobs out of Redis that SQL tells again."),
    "import": ("export", "Put the jobs of a file back, each once."),
    "lint": ("lint", "Find what jobs and reconcilers could do wrong, before they do."),
    "pass": ("work", "Run one pass of the reconciler NAME now."),
    "plan": ("plan", "Say what passes would do. Writes nothing."),
    "quarantine": ("quarantine", "List, release and quarantine rows whose jobs do not end well."),
    "rebuild": ("rebuild", "Tell every pending row that has no job, at a chosen rate."),
    "run": ("work", "Run the reconcilers of APP until TERM."),
    "shadow": ("shadow", "Say what reconcilers in shadow would have told."),
    "status": ("look", "Show every reconciler: who runs it, how its last pass ended."),
    "switches": ("switches", "List everything that is switched off."),
    "timeline": ("timeline", "Show what happened lately, in one list by time."),
    "upgrade": ("work", "Make our tables, or move them on to this release."),
    "web": ("web", "Serve the dashboard, with the pages of reconcilers."),
    "why": ("why", "Say why a row has not run, and when it will. Writes nothing."),
}
"""Each command's module, and its help in one line."""


def _code(error: QikError) -> int:
    from reconciler.cli.base import code_of  # which loads SQLAlchemy

    return code_of(error)


@click.group(cls=Lazy, prog="reconciler", package=__name__, known=COMMANDS, code=_code)
def main() -> None:
    """Tell again what SQL says is pending."""
