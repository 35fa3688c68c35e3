from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from reconciler.registry import find
from reconciler.status import Last, Standing
from reconciler.web.rows import next_pass
from tests.reconciler.shop import Item, items

NOW = datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        ({"holder": None}, "nobody runs it: start `reconciler run`"),
        ({"running_for": 3.0}, "under way for 3.0 s"),
        ({"last": None}, "soon"),
        ({"outcome": "failed"}, "soon: the last one failed, so it is tried again before its time"),
        ({"outcome": "gated"}, "as soon as what refuses its jobs lets them in"),
        ({"age": 20.0}, "in 38.0 s"),
        ({"age": 90.0}, "now"),
    ],
)
def test_the_next_pass_is_said_in_words(standing: dict[str, Any], said: str) -> None:
    definition = items(select(Item.id))
    last = Last(standing.pop("outcome", "completed"), "", standing.pop("age", 1.0), 2.0, 5, {}, {})
    given: dict[str, Any] = {"holder": "me", "running_for": None, "last": last, **standing}
    one = Standing("Items", "", "Work", term=1, expires_in=None, **given)

    assert next_pass(one, definition, NOW) == said


def test_the_next_pass_of_a_crontab_is_its_next_time_and_unknown_without_the_application() -> None:
    items(select(Item.id), cron="* * * * *")
    last = Last("completed", "", 1.0, 2.0, 5, {}, {})
    one = Standing("Items", "", "Work", "me", 1, None, None, last)

    assert next_pass(one, find("Items"), NOW) == "in 30.0 s"
    assert next_pass(one, None, NOW).startswith("not known")
