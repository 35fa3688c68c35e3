"""For the tests of applications: jobs in memory, at once, or in a private server; assertions; a pytest plugin.

    def test_an_order_is_charged(qik_fake):
        place_order(7)
        assert_enqueued(Charge, 7, queue="billing")
        qik_fake.drain()

A name is imported when it is first used, so that the plugin costs nothing in a run that asks for no fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qik_core.lazy import exports

if TYPE_CHECKING:
    from qik_core.testing.asserts import approx as approx
    from qik_core.testing.asserts import assert_enqueued as assert_enqueued
    from qik_core.testing.asserts import assert_enqueued_count as assert_enqueued_count
    from qik_core.testing.asserts import assert_not_enqueued as assert_not_enqueued
    from qik_core.testing.asserts import drain as drain
    from qik_core.testing.asserts import within as within
    from qik_core.testing.errors import Failure as Failure
    from qik_core.testing.errors import JobsFailed as JobsFailed
    from qik_core.testing.errors import MisusedMode as MisusedMode
    from qik_core.testing.errors import NothingEnqueued as NothingEnqueued
    from qik_core.testing.errors import Unending as Unending
    from qik_core.testing.fakes import Dropped as Dropped
    from qik_core.testing.fakes import Fake as Fake
    from qik_core.testing.fakes import fake as fake
    from qik_core.testing.idempotency import assert_idempotent as assert_idempotent
    from qik_core.testing.inlines import Inline as Inline
    from qik_core.testing.inlines import inline as inline
    from qik_core.testing.reals import Real as Real
    from qik_core.testing.reals import real as real
    from qik_core.testing.running import EnqueuedJob as EnqueuedJob
    from qik_core.testing.transactions import commits as commits

_HOMES = {
    "asserts": (
        "approx",
        "assert_enqueued",
        "assert_enqueued_count",
        "assert_not_enqueued",
        "drain",
        "within",
    ),
    "errors": ("Failure", "JobsFailed", "MisusedMode", "NothingEnqueued", "Unending"),
    "fakes": ("Dropped", "Fake", "fake"),
    "idempotency": ("assert_idempotent",),
    "inlines": ("Inline", "inline"),
    "reals": ("Real", "real"),
    "running": ("EnqueuedJob",),
    "transactions": ("commits",),
}

__getattr__, __dir__ = exports(__name__, _HOMES)
