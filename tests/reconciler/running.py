"""A manager that a test runs on a thread, and what its passes reported."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from qik_core.passes import Passes
from reconciler.definition import Definition
from reconciler.engines import Engines
from reconciler.manager import Manager
from reconciler.report import Outcome, Report


class Running:
    """A manager on a thread of the test, and what its passes reported."""

    def __init__(
        self, definitions: Sequence[Definition], engines: Engines, seam: Passes, ttl: float
    ) -> None:
        self.reports: list[Report] = []
        self.manager = Manager(definitions, engines, seam, lease=ttl, told=self.reports.append)
        self.well: bool | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.well = self.manager.run()

    def stop(self) -> None:
        self.manager.stop()
        self.thread.join(15.0)
        assert not self.thread.is_alive()

    def ended(self, name: str = "Items") -> list[Outcome]:
        return [each.outcome for each in self.reports if each.reconciler == name]
