"""The tabs of reconcilers in the dashboard. It needs the extra `qik-core[web]`.

import reconciler.web
from qik_core.web import app

dashboard = app(tabs=reconciler.web.tabs())
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from qik_core.web.tabs import Tab
from reconciler.web.asking import Sql
from reconciler.web.incident import Incident
from reconciler.web.quarantine import Quarantine
from reconciler.web.reconcilers import Reconcilers
from reconciler.web.switches import Switches

_TABS: Final = (
    Reconcilers,
    Quarantine,
    Switches,
    Incident,
)  # fmt: skip


def tabs(databases: Mapping[str, object] | None = None) -> Sequence[Tab]:
    """Return the tabs, for `qik_core.web.app(tabs=…)`.

    `databases` are names with URLs or engines, those of the settings by default. What needs application code, as the SQL of a
    reconciler, is shown of the reconcilers that are imported in this process.
    """
    sql = Sql(databases)
    return [each(sql) for each in _TABS]
