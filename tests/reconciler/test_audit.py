from __future__ import annotations

import pytest
from sqlalchemy import Engine

from reconciler import audit
from reconciler.audit import Action
from reconciler.sql import read_clock


def test_an_act_is_read_back_as_it_was_written(home: Engine) -> None:
    began = read_clock(home)

    audit.record(
        home, Action.DISABLED, "disable_x", "ana@host", "double charging", {"dropped": 7, "term": 3}
    )

    (entry,) = audit.read(home, began - 1)
    assert began - 1 <= entry.at <= read_clock(home) + 1
    assert (entry.who, entry.action, entry.subject) == ("ana@host", "disabled", "disable_x")
    assert (entry.reason, entry.details) == ("double charging", {"dropped": 7, "term": 3})
    assert entry.as_json()["details"] == {"dropped": 7, "term": 3}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_newest_acts_are_read_oldest_first_and_others_can_be_left_out(home: Engine) -> None:
    for number in range(5):
        audit.record(home, Action.FLUSHED, f"queue:{number}", "x", "", {})
    audit.record(home, Action.REBUILT, "Items", "x", "", {})

    def subjects(since: float = 0.0, most: int = 100, subject: str | None = None) -> list[str]:
        found = audit.read(home, since, actions=[Action.FLUSHED], subject=subject, most=most)
        return [each.subject for each in found]

    assert subjects() == [f"queue:{number}" for number in range(5)]
    assert subjects(most=2) == ["queue:3", "queue:4"]
    assert subjects(subject="queue:1") == ["queue:1"]
    assert subjects(since=read_clock(home) + 60) == []
    assert audit.read(home, 0.0)[-1].action == "rebuilt"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_is_longer_than_its_column_is_cut_off(home: Engine) -> None:
    audit.record(home, Action.FLUSHED, "s" * 500, "w" * 500, "r" * 5_000, {})

    (entry,) = audit.read(home, 0.0, subject="s" * 500)
    assert (len(entry.subject), len(entry.who), len(entry.reason)) == (200, 200, 5_000)


def test_details_of_an_act_may_name_many_tenants(home: Engine) -> None:
    many = {"rules": ["tenant"] * 20_000}

    audit.record(home, Action.DISABLED, "disable_x", "ana@host", "double charging", many)

    assert audit.read(home, 0.0)[-1].details == many
