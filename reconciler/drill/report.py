"""The report of a drill in a folder: `report.html` for people, `report.json` for programs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from reconciler.drill.evidence import Evidence
from reconciler.drill.page import headline, page
from reconciler.drill.verdict import Finding, doubled, lost, overlapping, sound

HTML: Final = "report.html"
JSON: Final = "report.json"
LOGS: Final = "logs"


def as_json(evidence: Evidence, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the whole drill as JSON values: the verdict first."""
    return {
        "sound": sound(findings),
        "headline": headline(evidence, findings),
        "lost": lost(evidence),
        "doubled": doubled(evidence),
        "overlaps": len(overlapping(evidence.runs, evidence.cuts)),
        "findings": [asdict(each) for each in findings],
        **evidence.as_json(),
    }


def keep_logs(scratch: Path, folder: Path) -> None:
    """Copy what the processes of a drill have said into a folder `logs` beside the report."""
    logs = sorted(scratch.glob("*.log"))
    if logs:
        (folder / LOGS).mkdir(parents=True, exist_ok=True)
    for log in logs:
        shutil.copy(log, folder / LOGS / log.name)


def write(folder: Path, evidence: Evidence, findings: Sequence[Finding]) -> Path:
    """Write both files; returns where the page is.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown = json.dumps(as_json(evidence, findings), indent=1)
    (folder / JSON).write_text(shown + "\n", encoding="utf-8")
    where = folder / HTML
    where.write_text(page(evidence, findings), encoding="utf-8")
    return where
