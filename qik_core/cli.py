"""The `qik` command. Commands that need no application do not import it, and each loads only what it uses.

Exit codes: 0 fine · 1 a finding · 2 usage · 3 refused as unsafe · 4 Redis cannot be reached · 5 SQL cannot be reached.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from qik_core import application
from qik_core.errors import MalformedPayload, QikError, StoreError, StoreUnavailable, UnknownJob
from qik_core.results import Push
from qik_core.settings import Settings, load, use

T = TypeVar("T")

FINDING: Final = 1
USAGE: Final = 2
NO_REDIS: Final = 4
ANSWER: Final = 2.7  # seconds; with the start of Python every command answers within 3

_REDIS_MISSING: Final = """\
no Redis is named, and a worker never starts one by itself. Do one of these:
  export REDIS_URL=redis://host:6379/0
  redis = "redis://host:6379/0"        in qik.toml, or under [tool.qik] in pyproject.toml
  qik dev                              for development: brings a server of its own"""

_APP_MISSING: Final = """\
no application is named: the module that defines your jobs. Do one of these:
  qik {command} shop.jobs
  export QIK_APP=shop.jobs
  app = "shop.jobs"                    in qik.toml, or under [tool.qik] in pyproject.toml"""


class Commands(click.Group):
    """The group of commands: turns this package's errors into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except QikError as error:
            click.echo(f"qik: {error}", err=True)
            ctx.exit(NO_REDIS if isinstance(error, StoreError) else USAGE)


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


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
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


_app = click.argument("app", required=False)
_redis_url = click.option("--redis-url", metavar="URL", help="Which Redis.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


_queues = click.option(
    "-q",
    "--queue",
    "queues",
    multiple=True,
    metavar="NAME[,WEIGHT]",
    help="A queue to serve; can be repeated.",
)


@main.command()
@_app
@click.option("-r", "--require", metavar="MODULE", help="Another way to name APP, as in Sidekiq.")
@click.option("-p", "--processes", type=int, metavar="N", help="Worker processes (1).")
@click.option(
    "-c", "--concurrency", type=int, metavar="N", help="Jobs at once in each process (10)."
)
@_queues
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
    type=click.IntRange(16),
    metavar="MB",
    help="Replace a process that grows beyond.",
)
@_redis_url
def work(
    app: str | None,
    require: str | None,
    queues: Sequence[str],
    max_memory: int | None,
    **flags: Any,
) -> NoReturn:
    """Run jobs. APP is the module that defines them, as in shop.jobs.

    Signals: TSTP stops fetching, TERM stops, a second TERM stops at once, TTIN prints what every thread does.
    """
    if require is not None and app not in (None, require):
        raise click.UsageError(f"APP is {app!r} and --require {require!r}: name one module")
    settings = _load(app=app or require, queues=list(queues) or None, **flags)
    if settings.app is None:
        raise click.UsageError(_APP_MISSING.format(command="work"))
    application.check(settings.app)
    if settings.origin("redis") == "default":
        raise click.UsageError(_REDIS_MISSING)
    _become_parent(settings, max_memory)


@main.command()
@_app
@click.option("-p", "--processes", type=int, metavar="N", help="Worker processes (1).")
@_queues
@click.option("--reconcilers/--no-reconcilers", default=True, help="Run reconcilers too (yes).")
def dev(
    app: str | None, processes: int | None, queues: Sequence[str], *, reconcilers: bool
) -> NoReturn:
    """Run everything for development: a server, a database, a worker, the reconcilers.

    Nothing needs to be installed or started before. What REDIS_URL and DATABASE_URL name is used instead of our own.
    """
    settings = _load(app=app, processes=processes, queues=list(queues) or None)
    if settings.app is None:
        raise click.UsageError(_APP_MISSING.format(command="dev"))
    application.check(settings.app)
    from qik_core.dev import run

    sys.exit(run(settings, reconcilers=reconcilers, say=click.echo))


@main.command()
@_app
@_redis_url
@_as_json
def config(app: str | None, redis_url: str | None, *, as_json: bool) -> None:
    """Print every setting, its value and where it came from."""
    settings = _load(app=app, redis_url=redis_url)
    values = settings.masked()
    databases = values.pop("databases")
    values.update({f"databases.{name}": value for name, value in databases.items()})
    rows = {
        name: {"value": _plain(value), "origin": settings.origin(name)}
        for name, value in sorted(values.items())
    }
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        _table(
            ("setting", "value", "origin"),
            [(name, _text(row["value"]), row["origin"]) for name, row in rows.items()],
        )


@main.command()
@click.argument("job", metavar="CLASS")
@click.argument("args", nargs=-1, metavar="[ARGS]...")
@click.option("-a", "--app", metavar="MODULE", help="The module that defines the job.")
@click.option("-q", "--queue", metavar="NAME", help="Another queue than the job's own.")
@click.option("--in", "wait", type=float, metavar="SECONDS", help="Not now.")
@_redis_url
@_as_json
def enqueue(
    job: str,
    args: Sequence[str],
    app: str | None,
    redis_url: str | None,
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Push one job. Each of ARGS is JSON: 7, true, '"text"', '[1, 2]'. Write -- before negative numbers.

    The job is CLASS as registered, or module:CLASS.
    """
    values = [_json_argument(number, text) for number, text in enumerate(args, 1)]
    module, _, name = job.rpartition(":") if "::" not in job else ("", "", job)
    settings = _load(app=module or app, redis_url=redis_url)
    if settings.app is None:
        raise click.UsageError(_APP_MISSING.format(command="enqueue CLASS -a"))
    pushed = _push(
        settings, name, values, {key: value for key, value in options.items() if value is not None}
    )
    outcome = {"result": type(pushed).__name__.lower(), **dataclasses.asdict(pushed)}
    if as_json:
        click.echo(json.dumps(outcome))
    else:
        click.echo(" ".join(str(value) for key, value in outcome.items() if key != "told"))
    if not pushed.told:
        sys.exit(FINDING)


@main.command()
@_redis_url
@_as_json
def status(redis_url: str | None, *, as_json: bool) -> None:
    """Print queues with their sizes, processes and the epoch."""
    from qik_core.store.link import Link
    from qik_core.store.overview import overview

    settings = _load(redis_url=redis_url)
    seen = _within(ANSWER, lambda: overview(Link(settings.redis)), settings.masked()["redis"])
    if as_json:
        click.echo(json.dumps(seen, indent=2))
        return
    queues = [
        (name, f"{size['queued']:,}", f"{size['later']:,}") for name, size in seen["queues"].items()
    ]
    _table(("queue", "queued", "later"), queues)
    _table(
        ("process", "working on"),
        [(each["identity"], str(each["working"])) for each in seen["processes"]],
    )
    sets = ("scheduled", "retries", "dead", "processed", "failed")
    click.echo(" · ".join(f"{name} {seen[name]:,}" for name in sets))
    click.echo(f"epoch {seen['epoch'] or 'none: nothing was ever pushed here, or Redis lost it'}")


# --- what the commands stand on ------------------------------------------------------------------


def _load(*, redis_url: str | None = None, **flags: Any) -> Settings:
    """Return the settings of this command, its own flags first; they hold for the application too."""
    settings = load({"redis": redis_url, **flags})
    use(settings)
    return settings


def _become_parent(settings: Settings, max_memory: int | None) -> NoReturn:
    """Replace this process by a parent: it must not hold what a command imports, and keeps our process id."""
    from qik_core import parent

    spec = parent.Spec(
        processes=settings.processes,
        slots=settings.concurrency,
        child=[sys.executable, "-m", "qik_core.child"],
        recover=[sys.executable, "-m", "qik_core.recover"],
        heartbeat=settings.heartbeat,
        lease=settings.lease,
        shutdown=settings.shutdown,
        settings=json.loads(settings.to_json()),
        memory_mb=max_memory,
    )
    path = str(Path(parent.__file__).resolve())
    environment = {**os.environ, parent.SPEC_VARIABLE: json.dumps(spec._asdict())}
    os.execve(sys.executable, [sys.executable, "-S", "-P", path], environment)  # noqa: S606  our own file


def _push(settings: Settings, name: str, args: Sequence[Any], options: Mapping[str, Any]) -> Push:
    """Push a job of the application. What the application configures itself holds, as in its own processes."""
    from qik_core import registry
    from qik_core.client import Client
    from qik_core.options import did_you_mean
    from qik_core.settings import current
    from qik_core.store import Store

    app = settings.app or ""
    application.load(app)
    if registry.find(name) is None:
        raise UnknownJob(f"{app} defines no job {name!r}{did_you_mean(name, registry.names())}")
    settings = current()
    store = Store(settings.redis, milliseconds=settings.wire == "sidekiq8")
    return Client(store, settings).push(name, args, **options)


def _json_argument(number: int, text: str) -> Any:
    from qik_core import strict

    try:
        return strict.decode(text.encode("utf-8", "surrogateescape"))
    except MalformedPayload as error:
        remedy = "write a text as '\"text\"'"
        raise click.UsageError(f"argument {number} is {text!r:.80}: {error}; {remedy}") from None


def _within(seconds: float, ask: Callable[[], T], whom: str) -> T:
    """Return the answer, or fail when it takes too long: each call has a deadline, but there may be many.

    Raises:
        StoreUnavailable: no answer in time.
    """
    answers: list[T | BaseException] = []

    def work() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001  raised again where it was asked for
            answers.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answers:
        raise StoreUnavailable(f"no answer from {whom} within {seconds:g} s")
    if isinstance(answers[0], BaseException):
        raise answers[0]
    return answers[0]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*heads, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=True).print(table)


def _plain(value: Any) -> Any:
    """Return a setting as JSON has it."""
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _text(value: Any) -> str:
    """Return a setting as a person writes it: queues as `critical,5 default,1`."""
    if not isinstance(value, (list, tuple)):
        return "-" if value is None else str(value)
    return (
        " ".join(
            _text(each) if isinstance(each, str) else ",".join(map(str, each)) for each in value
        )
        or "-"
    )


if __name__ == "__main__":
    main(prog_name="qik")
