"""The shape of what a schedule expects: one column that says which of its slots are done."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from reconciler import columns
from reconciler.cron import Slots
from reconciler.errors import Rule, broken
from reconciler.jobs import JobFacts
from reconciler.mapping import arguments_of
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
    arguments_of(owner, pending, job, query, [slot])
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
