"""What people are told when they have switched something: what holds now, what held before, what becomes of the jobs."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from qik_core.switches import Field
from reconciler.switches.acts import Done
from reconciler.switches.fitting import UnfitSwitch
from reconciler.switches.naming import Kind, Names, Target
from reconciler.switches.rules import told


class Change(StrEnum):
    """What somebody has done to a switch."""

    DISABLED = "disabled"
    ENABLED = "enabled"


def done_lines(action: Change, target: Target, names: Names, done: Done) -> Iterator[str]:
    """Yield what has become of it, line by line; the lines below the first are indented."""
    kind = "" if target.kind is Kind.FLAG else f" ({target})"
    if not done.in_sql and done.version is None:
        refused = any(isinstance(each, UnfitSwitch) for each in done.errors)
        why = "it was refused" if refused else "neither SQL nor Redis answers"
        yield f"{done.flag}{kind} is not {action}: {why}"
        return
    yield f"{done.flag}{kind} is {action}"
    for rule in done.now:
        yield f"  now     {told(rule)}"
    for rule in done.before:
        yield f"  before  {told(rule)}"
    if action is Change.ENABLED and not done.before:
        yield "  it was not off"
    if not done.in_sql:
        yield "  not in SQL yet: it stands in Redis alone, until a process of `reconciler run` can write it down"
    if done.version is None:
        yield "  not in Redis yet: processes learn of it when `reconciler run` can publish it"
    if action is Change.DISABLED:
        yield from _fates(target, names, done)


def _fates(target: Target, names: Names, done: Done) -> Iterator[str]:
    """Say whether everything that is stopped comes back."""
    if target.kind is Kind.RECONCILER:
        yield "  its rows stay in SQL, counted, and are told when it is enabled; pushes of the application go on"
    of_tenants = any(each.field is Field.TENANT for rule in done.now for each in rule.where)
    for name in names.stopped_by(target):
        if of_tenants and name not in names.tenants:
            yield f"  {name} does not say whose a job is (tenant=…): passes alone know, pushes and what is queued go on"
        by = names.told.get(name)
        if by:
            yield f"  {name} is told by {', '.join(sorted(by))}: what is dropped is told again when it is enabled"
        else:
            yield f"  nothing tells {name} again: its jobs are held, at most 10,000, and released in order"
