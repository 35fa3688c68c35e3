"""`reconciler flush`: take jobs out of Redis that SQL would tell again, after saying what that would mean."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from qik_core.cli import screen
from qik_core.cli.group import FINDING, UNSAFE, USAGE
from qik_core.errors import StoreError
from qik_core.flushing import Place
from qik_core.settings import current
from reconciler.cli import base, people
from reconciler.cli.selecting import (
    check_names,
    load_app,
    selection,
    selectors,
    waits,
)
from reconciler.derivable import Fate
from reconciler.flush import By, Flushed, WouldLose, check
from reconciler.flush import flush as flush_all
from reconciler.parts import FileInTheWay, part_of
from reconciler.survey import Line, Means, Plan, survey
from reconciler.words import size

_HEADS: Final = (
    "class", "queue", "queued", "scheduled", "retrying", "dead", "held", "running", "size",
    "re-derivable", "stale", "would be lost",
)  # fmt: skip
_AGAIN: Final = (
    "What was put aside waits in Redis: run the same command again, and it goes on; "
    "or `reconciler flush --put-back --reason …` lets it go back to its queues"
)


@click.command()
@selectors
@click.option(
    "--put-back", is_flag=True, help="Only end a flush that died: what is aside goes back."
)
@click.option("--dry-run", is_flag=True, help="Say what it would do. Writes nothing.")
@click.option("--reason", default="", help="Why, for the audit.")
@click.option("--lose", metavar="CLASS", multiple=True, help="Jobs of this class may be lost.")
@click.option(
    "--export", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
    help="Keep in FILE what nothing else brings back.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask.")
@base.app_option
@base.redis_url
@base.database_url
@base.as_json
def flush(
    *,
    dry_run: bool,
    reason: str,
    lose: Sequence[str],
    export: Path | None,
    yes: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Take jobs out of Redis; SQL tells their rows again. Running jobs and the jobs of others are never touched.

    Refuses (exit code 3) what nothing would bring back, unless --lose names its class or --export keeps it. Run again
    after it was cut short: it goes on. With --dry-run exit code 1 says that something would be lost.
    """
    where = {name: given.pop(name) for name in ("app", "redis_url", "database_url")}
    chosen = selection(**given)
    if not (dry_run or reason.strip()):
        raise click.UsageError("say why, for the audit: --reason '…'")
    problem = _open(where)
    who = people.who()
    means = Means.of(base.engines(current()), who)
    with screen.progress() as say:
        plan = survey(means, chosen, say)
    check_names(plan)
    by = By(who=who, reason=reason.strip(), lose=frozenset(lose), export=export)
    report: dict[str, Any] = {"plan": plan.as_json(), "problem": problem, "flushed": None}
    if not as_json:
        _show(plan, problem)
    if dry_run:
        _end_dry(plan, by, report, as_json=as_json)
    _refuse(plan, by, report, as_json=as_json)
    if not (plan.jobs or plan.aside or chosen.everything or _goes_on(by)):
        _print(report, "no job is meant: nothing to flush", as_json=as_json)
        return
    _confirm(plan, yes=yes)
    done = _do(plan, means, by)
    report["flushed"] = done.as_json()
    _print(report, "\n".join(done.told(by.export)), as_json=as_json)


def _open(where: dict[str, Any]) -> str:
    """Load settings and application; returns why the application's classes are not known."""
    settings = base.load_settings(**where)
    base.with_redis()
    return load_app(settings)


def _end_dry(plan: Plan, by: By, report: dict[str, Any], *, as_json: bool) -> None:
    loses = any(name not in by.lose for name in plan.lost) and by.export is None
    _print(report, "dry run: nothing was changed", as_json=as_json)
    sys.exit(FINDING if loses else 0)


def _refuse(plan: Plan, by: By, report: dict[str, Any], *, as_json: bool) -> None:
    try:
        check(plan, by)
        _check_file(by)
    except (WouldLose, FileInTheWay) as error:
        if as_json:
            click.echo(json.dumps(report | {"refused": str(error)}, indent=2))
        click.echo(f"reconciler: {screen.plain_lines(str(error))}", err=True)
        sys.exit(UNSAFE)


def _check_file(by: By) -> None:
    if by.export is not None and by.export.exists():
        raise FileInTheWay(f"{by.export} exists already: name another file, or move that one")


def _goes_on(by: By) -> bool:
    """Whether a flush that died has left jobs that are in no whole file yet."""
    return by.export is not None and part_of(by.export).exists()


def _confirm(plan: Plan, *, yes: bool) -> None:
    """Let a person write the name of what is flushed; where nobody can, refuse."""
    if yes or plan.selection.put_back:
        return
    word = plan.selection.word
    if not _is_person():
        click.echo(
            f"reconciler: this removes {plan.jobs:,} jobs ({plan.selection}). Add --yes", err=True
        )
        sys.exit(UNSAFE)
    typed = click.prompt(f"This removes {plan.jobs:,} jobs. Write {word!r} to go on", err=True)
    if typed.strip() != word:
        click.echo("reconciler: that is something else: nothing was done", err=True)
        sys.exit(UNSAFE)


def _is_person() -> bool:
    return sys.stdin.isatty()


def _do(plan: Plan, means: Means, by: By) -> Flushed:
    try:
        with screen.progress(plan.jobs) as say:
            return flush_all(plan, means, by, say=say, waits=waits)
    except FileInTheWay as error:
        click.echo(f"reconciler: {error}", err=True)
        sys.exit(UNSAFE)
    except OSError as error:
        click.echo(
            f"reconciler: {by.export} cannot be written: {error.strerror}. {_AGAIN}", err=True
        )
        sys.exit(USAGE)
    except KeyboardInterrupt:
        click.echo(f"\nreconciler: stopped. {_AGAIN}", err=True)
        sys.exit(FINDING)
    except StoreError:
        click.echo(f"reconciler: cut short. {_AGAIN}", err=True)
        raise


# --- what people see -----------------------------------------------------------------------------


def _print(report: dict[str, Any], text: str, *, as_json: bool) -> None:
    click.echo(json.dumps(report, indent=2) if as_json else text)


def _show(plan: Plan, problem: str) -> None:
    if plan.lines:
        rows = [_cells(line) for _, line in sorted(plan.lines.items())]
        screen.table(_HEADS, rows)
    for text in plan.notes(problem):
        click.echo(screen.plain_lines(text))


def _cells(line: Line) -> list[str]:
    places = (Place.QUEUED, Place.SCHEDULED, Place.RETRYING, Place.DEAD, Place.HELD)
    counts = [line.places[each] for each in places] + [line.running]
    fates = [line.fates[each] for each in (Fate.REDERIVABLE, Fate.STALE, Fate.LOST)]
    shown = [*map(_number, counts), size(line.bytes), *map(_number, fates)]
    return [line.name, line.queue, *shown]


def _number(count: int) -> str:
    return f"{count:,}" if count else "-"
