"""`reconciler disable` and `enable`: stop work by hand, let it run again, and say who has seen it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import click

from qik_core.errors import QikError, SettingsError, StoreUnavailable
from qik_core.passes import Passes
from qik_core.settings import Settings, current
from qik_core.switches import Condition, Field, Operator
from reconciler.cli import base
from reconciler.cli.base import Asked, code_of
from reconciler.cli.people import span_option, who
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable
from reconciler.switches.acts import Done, Order, Switcher
from reconciler.switches.naming import Names, Target, find, of_application, of_tables
from reconciler.switches.rules import plain
from reconciler.switches.saying import Change, done_lines
from reconciler.switches.settling import By
from reconciler.words import span

WAIT: Final = 10.0
"""Seconds for which `disable` and `enable` wait until every process has seen it; they end as soon as all have."""
_SQL: Final = 2.0
_EVERY: Final = 0.1
_SHOWN: Final = 5

_name = click.argument("name", metavar="NAME")
_reason = click.option(
    "--reason", required=True, metavar="TEXT", help="Why, for the audit and for others."
)
_expires = click.option(
    "--expires", metavar="TIME", callback=span_option, help="Only for so long: 30min, 2h, 1d."
)
_wait = click.option(
    "--wait",
    type=click.FloatRange(0),
    default=WAIT,
    metavar="SECONDS",
    help="How long to wait until every process has seen it (10).",
)


@click.command()
@_name
@_reason
@_expires
@click.option(
    "--percent",
    type=click.FloatRange(0, 100, min_open=True),
    default=100.0,
    help="Stop so many percent of the keys, always the same ones.",
)
@click.option(
    "--tenant", multiple=True, metavar="TENANT", help="Only of this tenant; may be repeated."
)
@click.option("--key", multiple=True, metavar="KEY", help="Only this key; may be repeated.")
@click.option("--cancel-running", is_flag=True, help="Ask jobs that run already to stop.")
@_wait
@base.app_option
@base.database_url
@base.redis_url
@base.as_json
def disable(name: str, *, reason: str, as_json: bool, **given: Any) -> NoReturn:
    """Stop work: NAME is a job class, a reconciler, or queue:QUEUE.

    Jobs of a class whose rows a reconciler tells are dropped and told again when it is enabled; all others are held.
    What you say here goes before every flag service and file, and replaces what was said by hand of NAME before.
    """
    meant = _meant(name, given)
    fields = (Field.TENANT, given["tenant"]), (Field.KEY, given["key"])
    order = Order(
        flag=meant.target.flag,
        by=By(who(), reason),
        percent=given["percent"],
        where=tuple(Condition(field, Operator.IN, values) for field, values in fields if values),
        expires_in=given["expires"],
        cancel=given["cancel_running"],
    )
    _tell(Change.DISABLED, meant, meant.switcher.disable(order), given["wait"], as_json=as_json)


@click.command()
@_name
@_reason
@_expires
@_wait
@base.app_option
@base.database_url
@base.redis_url
@base.as_json
def enable(name: str, *, reason: str, as_json: bool, **given: Any) -> NoReturn:
    """Let work run again: NAME is a job class, a reconciler, or queue:QUEUE.

    Takes back what was said by hand. Where a flag service or a file has NAME off, it is passed over from now on, with
    --expires for so long.
    """
    meant = _meant(name, given)
    done = meant.switcher.enable(meant.target.flag, By(who(), reason), given["expires"])
    _tell(Change.ENABLED, meant, done, given["wait"], as_json=as_json)


# --- what is meant ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Meant:
    """What to switch, and by what means."""

    target: Target
    names: Names
    switcher: Switcher


def _meant(name: str, given: Mapping[str, Any]) -> _Meant:
    if given["expires"] == 0:
        raise click.UsageError("--expires is 0: give a span of time, or leave it out")
    settings = base.load_settings(
        app=given["app"], database_url=given["database_url"], redis_url=given["redis_url"]
    )
    problem = _import(settings)
    engines = base.engines(current())
    seam = base.seam() if current().origin("redis") != "default" else None
    names = _seen_names(engines, seam) if problem else of_application()
    if problem:
        click.echo(f"reconciler: {problem.splitlines()[0]}", err=True)
    return _Meant(find(name, names), names, Switcher(engines.home(), seam, _SQL))


def _import(settings: Settings) -> str:
    """Import the application; returns why that failed, empty if it did not: then names are taken from elsewhere."""
    from qik_core import application

    if settings.app is None:
        return "no application is named, so names are not checked against it: --app, or QIK_APP"
    try:
        application.load(settings.app)
    except SettingsError as error:
        return str(error)
    return ""


def _seen_names(engines: Engines, seam: Passes | None) -> Names:
    """Return the names that SQL and Redis know."""
    redis: Asked[list[str]] = Asked(lambda: [] if seam is None else _classes(seam))
    classes = redis.answer(StoreUnavailable, "Redis") or []
    sql: Asked[Names] = Asked(lambda: of_tables(engines.home(), classes))
    found = sql.answer(SqlUnavailable, "SQL")
    return found or Names({name: name for name in classes}, {}, complete=False)


def _classes(seam: Passes) -> list[str]:
    return sorted({*seam.switches().reconciled, *(each.name for each in seam.held())})


# --- what has become of it ----------------------------------------------------------------------


def _tell(action: Change, meant: _Meant, done: Done, wait: float, *, as_json: bool) -> NoReturn:
    """Say at once what was done, then who has seen it."""
    if not as_json:
        for line in done_lines(action, meant.target, meant.names, done):
            click.echo(line)
        for error in done.errors:
            click.echo(f"reconciler: {error}", err=True)
    after = _after(meant, done, wait)
    if as_json:
        click.echo(json.dumps(_done_json(action, meant, done, after), indent=2))
    else:
        for line in after.lines():
            click.echo(f"  {line}")
    base.leave(max(map(code_of, done.errors), default=0))


@dataclass(frozen=True, slots=True)
class _After:
    """What the processes say of it. None: Redis does not say."""

    processes: int | None = None
    seen: int = 0
    seconds: float = 0.0
    running: Sequence[Any] | None = None
    cancels: bool = False
    dropped: int | None = None

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        if self.processes == 0:
            yield "no worker process is alive"
        elif self.processes is not None:
            when = "after" if self.seen == self.processes else "within"
            yield f"seen by {self.seen:,} of {self.processes:,} worker processes {when} {span(self.seconds)}"
        for each in (self.running or ())[:_SHOWN]:
            since = "" if each.since is None else f", since {each.since:%H:%M:%S} UTC"
            yield f"runs still: {each.name} {each.jid} on {each.identity}{since}"
        if more := len(self.running or ()) - _SHOWN:
            yield from [f"and {more:,} more run still"] if more > 0 else []
        if self.running:
            asked = (
                "they are asked to stop" if self.cancels else "--cancel-running asks them to stop"
            )
            yield f"{asked} at their next checkpoint"
        if self.dropped is not None:
            yield f"dropped or refused so far: {self.dropped:,}"


def _after(meant: _Meant, done: Done, wait: float) -> _After:
    """Wait until every process has seen it; ask what runs still and what was dropped."""
    seam = meant.switcher.seam
    if seam is None or done.version is None:
        return _After()
    began = time.monotonic()
    try:
        seen = seam.switches_seen()
        while (
            min(seen.values(), default=done.version) < done.version
            and time.monotonic() < began + wait
        ):
            time.sleep(_EVERY)
            seen = seam.switches_seen()
        count = sum(version >= done.version for version in seen.values())
        return _After(
            len(seen),
            count,
            time.monotonic() - began,
            seam.running(done.flag) if done.now else (),
            any(each.cancel for each in done.now),
            _dropped(seam, done),
        )
    except QikError as error:
        done.errors.append(error)
        return _After()


def _dropped(seam: Passes, done: Done) -> int | None:
    count = seam.switched_off().get(done.flag, 0)
    return None if done.counted is None else max(0, count - done.counted)


def _done_json(action: Change, meant: _Meant, done: Done, after: _After) -> dict[str, Any]:
    classes = meant.names.stopped_by(meant.target)
    return {
        "switch": done.flag,
        "of": {"kind": str(meant.target.kind), "name": meant.target.name},
        "action": str(action),
        "now": [plain(each) for each in done.now],
        "before": [plain(each) for each in done.before],
        "in_sql": done.in_sql,
        "version": done.version,
        "processes": after.processes,
        "seen": after.seen,
        "seconds": round(after.seconds, 3),
        "running": None
        if after.running is None
        else [
            {"job": each.name, "jid": each.jid, "queue": each.queue, "process": each.identity}
            for each in after.running
        ],
        "dropped": after.dropped,
        "told_again": {name: sorted(meant.names.told.get(name, ())) for name in classes},
        "held": [name for name in classes if not meant.names.told.get(name)],
        "errors": [str(each) for each in done.errors],
    }
