"""What axe-core finds wrong with a page for people who do not see, point or read as its author does.

`scripts/npm` installs it. It is put into the page by the browser's own door, so the page's policy need not let it in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests import servers
from tests.chromium import Tab

PROGRAM: Final = (
    Path(__file__).parents[1] / ".cache" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
)
SERIOUS: Final = ("serious", "critical")


def complaints(tab: Tab) -> list[str]:
    """Return what is serious about the page that is open: rule, where, and what axe says of it."""
    if not PROGRAM.exists():
        servers.absent("axe-core")
    tab.run(f"{PROGRAM.read_text(encoding='utf-8')}; 0")
    found = tab.run(
        "axe.run({resultTypes: ['violations'], preload: false}).then(each => each.violations.flatMap(rule => "
        "rule.nodes.map(node => [rule.impact, rule.id, node.target.join(' '), node.failureSummary])))"
    )
    return [": ".join(map(str, each)) for each in found if each[0] in SERIOUS]
