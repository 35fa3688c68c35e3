"""`qik enqueue`: push one job by hand."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from qik_core import application
from qik_core.cli import base
from qik_core.cli.group import FINDING
from qik_core.errors import MalformedPayload, UnknownJob
from qik_core.results import Duplicate, Push
from qik_core.settings import Settings


@click.command()
@click.argument("job", metavar="CLASS")
@click.argument("args", nargs=-1, metavar="[ARGS]...")
@click.option("-a", "--app", metavar="MODULE", help="The module that defines the job.")
@click.option("-q", "--queue", metavar="NAME", help="Another queue than the job's own.")
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
    """Push one job. Each of ARGS is JSON: 7, true, '"text"', '[1, 2]'. Write -- before negative numbers.

    The job is CLASS as registered, or module:CLASS.
    """
    values = [_json_argument(number, text) for number, text in enumerate(args, 1)]
    module, _, name = job.rpartition(":") if "::" not in job else ("", "", job)
    settings = base.load_settings(app=module or app, redis_url=redis_url)
    if settings.app is None:
        raise click.UsageError(base.APP_MISSING.format(command="enqueue CLASS -a"))
    pushed = _push(
        settings, name, values, {key: value for key, value in options.items() if value is not None}
    )
    outcome = {"result": type(pushed).__name__.lower(), **dataclasses.asdict(pushed)}
    if as_json:
        click.echo(json.dumps(outcome))
    else:
        if isinstance(pushed, Duplicate):
            outcome["state"] = pushed.state.removeprefix("duplicate_")
        click.echo(" ".join(str(value) for key, value in outcome.items() if key != "told"))
    if not pushed.told:
        sys.exit(FINDING)


def _push(settings: Settings, name: str, args: Sequence[Any], options: Mapping[str, Any]) -> Push:
    """Push a job of the application. What the application configures itself holds, as in its own processes."""
    from qik_core import client, registry
    from qik_core.options import did_you_mean

    app = settings.app or ""
    application.load(app)
    if registry.find(name) is None:
        raise UnknownJob(f"{app} defines no job {name!r}{did_you_mean(name, registry.names())}")
    return client.push(name, args, **options)


def _json_argument(number: int, text: str) -> Any:
    from qik_core import strict

    try:
        return strict.decode(text.encode("utf-8", "surrogateescape"))
    except MalformedPayload as error:
        remedy = "write a text as '\"text\"'"
        raise click.UsageError(f"argument {number} is {text!r:.80}: {error}; {remedy}") from None
