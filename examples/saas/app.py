"""The application, as every process of it begins: its databases, its jobs, its reconcilers.

`qik work` and `reconciler run` load it. So does the web service: a commit knows then which of its pushes a pass makes up for.
"""

from __future__ import annotations

from examples.saas import jobs, reconcilers
from examples.saas.database import INFRA, async_engine
from qik_core import configure

__all__ = ["jobs", "reconcilers"]

# `default` is DATABASE_URL. The jobs on `infra` are async, so they need an engine for asyncio; passes read with a
# companion of it for threads.
# A worker serves all three queues, the first one first, unless `qik work -q` says otherwise.
configure(databases={INFRA: async_engine(INFRA)}, queues=["billing", "mail", "infra"])
