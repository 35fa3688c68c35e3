"""`qik work` and `qik dev`: processes that run jobs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from qik_core import application
from qik_core.cli import base
from qik_core.cli.group import log_format
from qik_core.settings import Settings

_REDIS_MISSING: Final = """\
no Redis is named, and a worker never starts one by itself. Do one of these:
  export REDIS_URL=redis://host:6379/0
  redis = "redis://host:6379/0"        in qik.toml, or under [tool.qik] in pyproject.toml
  qik dev                              for development: brings a server of its own"""


@click.command()
@base.app
@click.option("-r", "--require", metavar="MODULE", help="Another way to name APP, as in Sidekiq.")
@click.option("-p", "--processes", type=int, metavar="N", help="Worker processes (1).")
@click.option(
    "-c", "--concurrency", type=int, metavar="N", help="Jobs at once in each process (10)."
)
@base.queues
@click.option(
    "-t",
    "--timeout",
    "shutdown",
    type=float,
    metavar="SECONDS",
    help="For running jobs, to stop (25).",
)
@click.option(
    "--max-memory",
    type=int,
    metavar="MB",
    help="Replace a process that grows beyond.",
)
@log_format
@base.redis_url
def work(
    app: str | None,
    require: str | None,
    queues: Sequence[str],
    **flags: Any,
) -> NoReturn:
    """Run jobs. APP is the module that defines them, as in shop.jobs.

    Signals: TSTP stops fetching, TERM stops, a second TERM stops at once, TTIN prints what every thread does.
    """
    if require is not None and app not in (None, require):
        raise click.UsageError(f"APP is {app!r} and --require {require!r}: name one module")
    settings = base.load_settings(app=app or require, queues=list(queues) or None, **flags)
    if settings.app is None:
        raise click.UsageError(base.APP_MISSING.format(command="work"))
    application.check(settings.app)
    if settings.origin("redis") == "default":
        raise click.UsageError(_REDIS_MISSING)
    _become_parent(settings)


@click.command()
@base.app
@click.option("-p", "--processes", type=int, metavar="N", help="Worker processes (1).")
@base.queues
@click.option("--reconcilers/--no-reconcilers", default=True, help="Run reconcilers too (yes).")
@click.option("--dashboard/--no-dashboard", default=True, help="Serve the dashboard too (yes).")
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    default=7410,
    help="Of the dashboard (7410); where it is taken, the next free one.",
)
@click.option(
    "--reload/--no-reload",
    default=True,
    help="Start again when a source file of APP changes (yes).",
)
def dev(app: str | None, processes: int | None, queues: Sequence[str], **parts: Any) -> NoReturn:
    """Run everything for development: a server, a database, a worker, the reconcilers, the dashboard.

    Nothing needs to be installed or started before. What REDIS_URL and DATABASE_URL name is used instead of our own. The
    dashboard needs the extra web; its address is printed when it answers. When a Python file of APP's package changes, or
    one beside APP where it is a module alone, everything starts again; an edit that breaks it waits for the next one.
    """
    settings = base.load_settings(app=app, processes=processes, queues=list(queues) or None)
    if settings.app is None:
        raise click.UsageError(base.APP_MISSING.format(command="dev"))
    application.check(settings.app)
    from qik_core.dev import Parts, run

    sys.exit(run(settings, Parts(**parts), click.echo))


def _become_parent(settings: Settings) -> NoReturn:
    """Replace this process by a parent: it must not hold what a command imports, and keeps our process id."""
    from qik_core import parent

    spec = parent.Spec(
        processes=settings.processes,
        slots=settings.slots,
        child=[sys.executable, "-m", "qik_core.child"],
        recover=[sys.executable, "-m", "qik_core.recover"],
        heartbeat=settings.heartbeat,
        lease=settings.lease,
        shutdown=settings.shutdown,
        settings=json.loads(settings.to_json()),
        memory_mb=settings.max_memory,
    )
    path = str(Path(parent.__file__).resolve())
    environment = {**os.environ, parent.SPEC_VARIABLE: json.dumps(spec._asdict())}
    os.execve(sys.executable, [sys.executable, "-S", "-P", path], environment)  # noqa: S606  our own file
