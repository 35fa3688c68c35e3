"""`qik cancel`, `deploy-mark`, `pause`, `resume`, `quiet`, `stop`: commands that act on jobs, queues and processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Final

import click

from qik_core.api import Cancelled, ProcessSet, Queue, Signal, mark_deploy
from qik_core.api import cancel as cancel_job
from qik_core.cli import base, completing
from qik_core.cli.group import FINDING
from qik_core.options import did_you_mean
from qik_core.store import Store

_SAID: Final = {
    Cancelled.REMOVED: "removed: it was waiting, and its lock is free",
    Cancelled.ASKED: "asked to stop: a process has it; it ends at its next checkpoint, or is not started",
    Cancelled.NOT_FOUND: "not found: it has ended, is dead, or never was",
}
_identity = click.argument("identity", required=False)
_yes = click.option("--yes", is_flag=True, help="Do not ask, also for all processes.")


@click.command()
@click.argument("jid")
@base.redis_url
@base.as_json
def cancel(jid: str, redis_url: str | None, *, as_json: bool) -> None:
    """Cancel one job, wherever it is.

    One that waits is removed with its lock; one that runs hears of it with its process's next
    beat, and stops at its next checkpoint.
    """
    result = cancel_job(jid, base.store(redis_url))
    _say({"jid": jid, "result": result.value}, _SAID[result], as_json=as_json)
    if result is Cancelled.NOT_FOUND:
        sys.exit(FINDING)


@click.command()
@click.argument("label")
@base.redis_url
@base.as_json
def deploy_mark(label: str, redis_url: str | None, *, as_json: bool) -> None:
    """Mark that a release was deployed now, for the charts of the dashboard.

    LABEL names it: a version, a commit, up to 100 characters. Sidekiq's Metrics page shows it too. Every process of a
    deploy may say so: a label is marked once a minute.
    """
    marked = mark_deploy(label, store=base.store(redis_url))
    text = f"marked: {label}" if marked else f"marked already, within this minute: {label}"
    _say({"label": label, "marked": marked}, text, as_json=as_json)


@click.command()
@click.argument("queue", shell_complete=completing.queues)
@base.redis_url
@base.as_json
def pause(queue: str, redis_url: str | None, *, as_json: bool) -> None:
    """Stop fetching from a queue, in all processes.

    What runs goes on, and pushes are taken. It lasts until `qik resume`.
    """
    changed = Queue(queue, base.store(redis_url)).pause()
    text = f"{queue} is paused" if changed else f"{queue} was paused already"
    _say({"queue": queue, "paused": True, "changed": changed}, text, as_json=as_json)


@click.command()
@click.argument("queue", shell_complete=completing.queues)
@base.redis_url
@base.as_json
def resume(queue: str, redis_url: str | None, *, as_json: bool) -> None:
    """Fetch from a paused queue again."""
    changed = Queue(queue, base.store(redis_url)).resume()
    text = f"{queue} is served again" if changed else f"{queue} was not paused"
    _say({"queue": queue, "paused": False, "changed": changed}, text, as_json=as_json)


@click.command()
@_identity
@_yes
@base.redis_url
@base.as_json
def quiet(identity: str | None, redis_url: str | None, *, yes: bool, as_json: bool) -> None:
    """Let processes finish what they run and fetch no more.

    One process, by its identity as `qik status` prints it, or all. It cannot be taken back: they have to be restarted.
    """
    _signal(Signal.QUIET, identity, base.store(redis_url), yes=yes, as_json=as_json)


@click.command()
@_identity
@_yes
@base.redis_url
@base.as_json
def stop(identity: str | None, redis_url: str | None, *, yes: bool, as_json: bool) -> None:
    """Let processes stop as TERM does.

    One process, by its identity as `qik status` prints it, or all. A parent that still runs replaces those of its own.
    """
    _signal(Signal.STOP, identity, base.store(redis_url), yes=yes, as_json=as_json)


def _signal(
    signal: Signal, identity: str | None, store: Store, *, yes: bool, as_json: bool
) -> None:
    """Ask one process or all; each looks at its next beat."""
    processes = ProcessSet(store)
    known = {each.identity for each in processes if not each.embedded}
    if identity is not None and identity not in known:
        hint = did_you_mean(identity, known)
        click.echo(f"qik: no process {identity!r} takes signals here{hint}", err=True)
        sys.exit(FINDING)
    if identity is None and known:
        base.confirm(f"{signal.name.lower()} all {len(known)} processes", yes=yes)
    ask = processes.quiet if signal is Signal.QUIET else processes.stop
    asked = ask(identity)
    report = {"signal": signal.value, "asked": asked, "identity": identity}
    _say(report, f"{asked} asked: they look at their next beat", as_json=as_json)
    if not asked:
        sys.exit(FINDING)


def _say(report: Mapping[str, object], text: str, *, as_json: bool) -> None:
    click.echo(json.dumps(report) if as_json else text)
