"""The shape of what a schedule expects: one column that says which of its slots are done."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.sql.elements import ColumnElement

from reconciler import columns
from reconciler.cron import Slots
from reconciler.errors import Rule, broken
from reconciler.jobs import JobFacts
from reconciler.pending import Pending
from reconciler.shape import Order, Shape, checked


def slot_shape(owner: str, pending: Pending[Any], job: JobFacts, slots: Slots) -> Shape:
    """Return the shape of a declaration of what is done.

    Raises:
        DefinitionError: names the class, the rule and the remedy.
    """
    query = checked(owner, pending.query)
    selected = list(query.selected_columns)
    if len(selected) != 1:
        raise broken(
            owner,
            Rule.SLOTS,
            f"done selects {len(selected)} columns",
            "Select the one that says which slot a row is of: done = derive(SomeJob, select(Report.slot))",
        )
    slot = selected[0]
    stray = sorted(set(pending.columns) - {"key"}) + (["args"] if pending.args else [])
    key = columns.elements(pending.columns.get("key", slot))
    if stray or key is None or len(key) != 1 or not columns.same(key[0], slot):
        raise broken(
            owner,
            Rule.SLOTS,
            f"done is given {stray[0] if stray else 'a key'}, and what is pending is a slot, not a row",
            "Give derive() the job and the select alone",
        )
    kind = columns.python_type(slot)
    if kind is None or not issubclass(kind, (datetime, int)) or kind is bool:
        raise broken(
            owner,
            Rule.SLOTS,
            f"slot column {columns.name(slot)} is {slot.type!r}",
            "Use a datetime (naive ones are in UTC), or a whole number of epoch seconds",
        )
    _check_job(owner, slot, job)
    return Shape(
        statement=query,
        width=1,
        order=(Order(slot, descending=False, at=0),),
        key=(0,),
        version=None,
        age=None,
        age_at=None,
        args=None,
        labels=(columns.name(slot),),
        proven=True,
        slots=slots,
    )


def _check_job(owner: str, slot: ColumnElement[Any], job: JobFacts) -> None:
    """Check that the job takes a slot and nothing else. Rows without one are of no slot: the column may be NULL."""
    first = job.parameters[0] if job.parameters else None
    if first is None or any(each.required for each in job.parameters[1:]):
        raise broken(
            owner,
            Rule.COLUMNS,
            f"a slot is the only argument, and {job.name} has {job.signature}",
            "Write perform(self, slot: datetime), and read whatever else it needs",
        )
    if not columns.fits(slot, first.annotation):
        raise broken(
            owner,
            Rule.COLUMNS,
            f"column {columns.name(slot)} is {slot.type!r}, and {job.name}.{job.signature} does not take its values",
            f"Annotate {first.name} as the column's type: perform(self, {first.name}: datetime)",
        )
    if first.name not in job.unique:
        raise broken(
            owner,
            Rule.KEY_MAPS,
            f"{first.name} is no unique argument of {job.name}: all slots would share one lock",
            f"Put it into unique_args=[{first.name!r}], or leave unique_args= out",
        )
