"""A process of reconcilers whose two threads of switches a test moves by hand, and what it publishes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine

from qik_core.passes import Passes
from qik_core.store import Store
from qik_core.switches import Rule, Snapshot
from reconciler import audit
from reconciler.switches.provider import Rules
from reconciler.switches.settling import By, copy, settle
from reconciler.switches.switchboard import Switchboard
from reconciler.switches.table import Health, Table

FLAG = Rule(source="unleash", reason="rollout")
BY = By("ana@host", "double charging")
WORK = {"disable_work": (FLAG,)}


class Says:
    """A provider that says what a test lets it say."""

    name = "unleash"

    def __init__(self, rules: Rules | None = None) -> None:
        self.now = rules
        self.problem = ""
        self.changed: Callable[[], None] = lambda: None

    def start(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    def rules(self) -> Rules | None:
        return self.now

    def health(self) -> str:
        return self.problem

    def close(self, seconds: float = 0.0) -> None: ...


class Process:
    """One process of reconcilers, whose two threads a test moves by hand."""

    def __init__(self, home: Engine, redis_url: str, name: str = "one", *says: Says) -> None:
        self.says = says
        self.store = Store(redis_url)
        self.board = Switchboard(home, Passes(self.store), says, name)
        for each in says:
            each.start(self.board._hear)
        self.settled()

    def settled(self) -> None:
        """Let each thread have its turn, twice: what one learns the other may have to know."""
        for _ in range(2):
            self.board.keep()
            self.look()

    def look(self) -> None:
        """Let the thread of Redis have its turn, a second after it had its last."""
        self.board._seam._client.gate.board._next = 0.0
        self.board.publish()

    def hears(self, rules: Rules | None) -> None:
        self.says[0].now = rules
        self.says[0].changed()


def published(raw: Any) -> Snapshot:
    return Snapshot.parse(raw.get("qik:switches"))


def audited(home: Engine) -> list[tuple[str, str, str]]:
    return [(each.action, each.subject, each.who) for each in audit.read(home, 0.0)]


def provider_says(table: Table, **flags: Rule) -> None:
    """Let a process of reconcilers have copied what a flag service says."""
    rules = {flag: (rule,) for flag, rule in flags.items()}

    def write(writer: Any) -> None:
        copy(writer, "unleash", rules)
        writer.note("unleash", Health("", writer.before.now))
        settle(writer, {})

    table.change(write)
