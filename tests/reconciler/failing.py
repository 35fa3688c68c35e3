"""A database that fails at a page: what is done there, the pass that meets it, and what must be after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from sqlalchemy import URL, Engine, event, select

from qik_core.passes import Passes
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome, Report
from tests.reconciler import tables
from tests.reconciler.shop import Item, items

PENDING = select(Item.id).where(Item.state == "pending")
ROWS: Final = 300
PAGES: Final = (1, 2, 3, 4)
"""Three are full, the last one is empty."""
LOST: Final = [
    pytest.param(fault, page, marks=[pytest.mark.slow] if fault == "hole" and 1 < page < 4 else [])
    for fault in ("cut", "mid", "hole")
    for page in PAGES
]
"""What becomes of the answer to which page; one that never comes is waited for."""


@contextmanager
def at_the_other_end(url: URL, seam: Passes) -> Iterator[Tools]:
    """What a pass works with, its rows and its ledger where this URL leads: to a wire."""
    engines = Engines({"default": url})
    tables.make(engines.home())
    yield Tools.of(seam, engines, "test")
    engines.dispose()


def at(engine: Engine, words: str, time: int, do: Callable[[Any], object]) -> None:
    """Call `do` with the driver's connection just before the so manieth statement with these words, once."""
    seen: list[int] = []

    @event.listens_for(engine, "before_cursor_execute")
    def look(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if words in statement:
            seen.append(1)
            if len(seen) == time:
                do(connection.connection.driver_connection)


def at_page(engine: Engine, page: int, do: Callable[[Any], object]) -> None:
    """Call `do` with the driver's connection just before a page is asked for, once."""
    at(engine, "FROM item", page, do)


def run(tools: Tools, **options: Any) -> Report:
    """Run a pass of a hundred rows a page."""
    given = {"batch_size": 100, "statement_timeout": 1.0, **options}
    return Pass(items(PENDING, **given), tools, 1, lambda: None).run()


def fails_then_completes(
    tools: Tools, raw: Any, first: Report, error: type[Exception] = SqlUnavailable
) -> None:
    """Hold that a pass failed by this, and that the next one tells the rest, each row once."""
    assert first.outcome is Outcome.FAILED, first
    assert isinstance(first.error, error), first
    again = run(tools, statement_timeout=10.0)
    assert again.outcome is Outcome.COMPLETED, again
    assert raw.llen("queue:work") == ROWS
