"""`qik enqueue`: push one job by hand, its arguments read as `perform` is annotated."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from qik_core import application
from qik_core.arguments import Arguments, Untyped
from qik_core.cli import base, completing
from qik_core.cli.group import FINDING
from qik_core.errors import MalformedPayload, UnknownJob
from qik_core.results import Duplicate, Push
from qik_core.settings import Settings

_ANYTHING: Final[frozenset[type]] = frozenset({str, int, float, bool, list, dict, type(None)})
_TEXT: Final[frozenset[type]] = frozenset({str})


@click.command()
@click.argument("job", metavar="CLASS", shell_complete=completing.jobs)
@click.argument("args", nargs=-1, metavar="[ARGS]...")
@click.option("-a", "--app", metavar="MODULE", help="The module that defines the job.")
@click.option(
    "-q",
    "--queue",
    metavar="NAME",
    shell_complete=completing.queues,
    help="Another queue than the job's own.",
)
@click.option("--in", "wait", type=float, metavar="SECONDS", help="Not now.")
@base.redis_url
@base.as_json
def enqueue(
    job: str,
    args: Sequence[str],
    app: str | None,
    redis_url: str | None,
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Push one job, its arguments read as perform is annotated.

    As in `qik enqueue shop.jobs:Charge 42 late`. A text, UUID, Decimal, date or time is written as it is: late, 12.50,
    2026-11-22. Anything else is JSON: 42, true, null, '[1, 2]'. A text in double quotes is JSON too. Before negative numbers,
    write --. The job is CLASS as registered, or module:CLASS.
    """
    module, _, name = job.rpartition(":") if "::" not in job else ("", "", job)
    settings = base.load_settings(app=module or app, redis_url=redis_url)
    if settings.app is None:
        raise click.UsageError(base.APP_MISSING.format(command="enqueue CLASS -a"))
    given = {key: value for key, value in options.items() if value is not None}
    pushed = _push(settings, name, args, given)
    outcome = {"result": type(pushed).__name__.lower(), **dataclasses.asdict(pushed)}
    if as_json:
        click.echo(json.dumps(outcome))
    else:
        if isinstance(pushed, Duplicate):
            outcome["state"] = pushed.state.removeprefix("duplicate_")
        click.echo(" ".join(str(value) for key, value in outcome.items() if key != "told"))
    if not pushed.told:
        sys.exit(FINDING)


def _push(settings: Settings, name: str, texts: Sequence[str], options: Mapping[str, Any]) -> Push:
    """Push a job of the application. What the application configures itself holds, as in its own processes."""
    from qik_core import client, registry
    from qik_core.options import did_you_mean

    app = settings.app or ""
    application.load(app)
    definition = registry.find(name)
    if definition is None:
        raise UnknownJob(f"{app} defines no job {name!r}{did_you_mean(name, registry.names())}")
    return client.push(name, typed(definition.arguments, texts), **options)


def typed(arguments: Arguments | Untyped, texts: Sequence[str]) -> list[Any]:
    """Return the arguments that a person typed, for `perform`.

    Raises:
        UsageError: one is neither what is annotated nor JSON.
        ArgumentError: too few or too many, or of another type than annotated.
    """
    known = () if isinstance(arguments, Untyped) else arguments.parameters
    wires = [(each.name, each.codec.wire) for each in known]
    rest = _ANYTHING if isinstance(arguments, Untyped) else _TEXT
    spare = [("", rest)] * max(len(texts) - len(wires), 0)
    places = enumerate(zip(texts, [*wires, *spare], strict=False), 1)
    return arguments.load(
        [
            _read(text, wire, f"argument {n} {name and f'({name}) '}")
            for n, (text, (name, wire)) in places
        ]
    )


def _read(text: str, wire: frozenset[type], which: str) -> Any:
    """Return a value as JSON has it: as JSON if that fits what is annotated, else as a text if that does."""
    from qik_core import strict

    may_be_text = str in wire and not wire & {list, dict}
    try:
        value = strict.decode(text.encode("utf-8", "surrogateescape"))
    except MalformedPayload as error:
        if may_be_text:
            return text
        remedy = "write a text as '\"text\"'"
        raise click.UsageError(f"{which}is {text!r:.80}: {error}; {remedy}") from None
    return text if may_be_text and type(value) not in wire else value
