"""What an application writes: a class that says which rows want which job, how often, and how it is told.

    class OpenInvoices(Reconciler, every=timedelta(minutes=1), jitter=timedelta(seconds=30)):
        pending = derive(ChargeInvoice, select(Invoice.id).where(Invoice.status == "open"))

Everything that can be wrong with it is said when the class is defined.
"""

from __future__ import annotations

from typing import ClassVar, Unpack

from reconciler.definition import Definition, define
from reconciler.options import Options
from reconciler.registry import register


class Reconciler:
    """The base of reconcilers. `pending = derive(...)` says which rows want which job; the keywords are `Options`.

    Raises:
        DefinitionError: at definition; names the class, the rule and the remedy.
    """

    definition: ClassVar[Definition]

    def __init_subclass__(cls, **options: Unpack[Options]) -> None:
        super().__init_subclass__()
        cls.definition = define(cls, dict(options))
        register(cls.definition)
