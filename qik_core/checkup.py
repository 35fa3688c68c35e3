"""What `qik doctor` prints and the dashboard shows: everything that is wrong, and what was seen beside that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qik_core import application
from qik_core.doctor import Finding, examine, unserved
from qik_core.middleware import name_of
from qik_core.settings import Settings
from qik_core.store.inspection import Facts


@dataclass(frozen=True, slots=True)
class Checkup:
    """What came of an examination."""

    findings: Sequence[Finding]
    report: Mapping[str, Any]
    """What was seen, as JSON has it."""

    @classmethod
    def of(
        cls, facts: Facts, settings: Settings, jobs: Sequence[str], of_app: Sequence[Finding]
    ) -> Checkup:
        """Judge what Redis said. `jobs` are the names of the application's, `of_app` is what is wrong with it."""
        findings = [*of_app, *examine(facts, settings), *_unserved(facts, settings)]
        return cls(findings, _report(facts, settings, jobs))

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {"findings": [dataclasses.asdict(each) for each in self.findings], **self.report}


def _unserved(facts: Facts, settings: Settings) -> list[Finding]:
    """Return the finding of queues that the application uses and nobody serves."""
    elsewhere = {name for each in facts.workers for name in each.queues}
    left = application.unserved(settings.served | elsewhere)
    return [unserved(facts, application.named(left))] if settings.app and left else []


def _report(facts: Facts, settings: Settings, jobs: Sequence[str]) -> dict[str, Any]:
    server = facts.server
    return {
        "server": {
            "kind": server.kind,
            "version": ".".join(map(str, server.version)),
            "maxmemory_policy": server.policy,
            "round_trip_ms": round(facts.round_trip * 1000, 3),
            "clock_skew_seconds": round(facts.skew, 3),
        },
        "processes": [each.identity for each in facts.workers if each.ours],
        "ruby_processes": [each.identity for each in facts.workers if not each.ours],
        "queues": facts.queues,
        "counts": facts.counts,
        "client_middleware": [name_of(each) for each in settings.client_middleware],
        "server_middleware": [name_of(each) for each in settings.server_middleware],
        "settings": dict(settings.origins),
        "app": settings.app,
        "jobs": jobs,
    }
