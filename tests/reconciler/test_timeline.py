from __future__ import annotations

import json
from dataclasses import replace

from sqlalchemy import Engine, insert, update

from reconciler import audit
from reconciler.audit import Action
from reconciler.memory import Memory
from reconciler.sql import read_clock
from reconciler.states import Hold, Reason, State
from reconciler.tables import audit as audit_table
from reconciler.tables import passes
from reconciler.timeline import Event, What, timeline

HOUR = 3_600.0


def a_pass(home: Engine, ago: float, outcome: str, reason: str = "", unit: str = "Items") -> None:
    """Write down a pass that began so long ago and took a second."""
    now = read_clock(home)
    name, _, shard = unit.partition("/")
    row = {
        "reconciler": name,
        "shard": shard,
        "job_class": "Work",
        "holder": "host:1",
        "term": 1,
        "started_at": now - ago,
        "ended_at": now - ago + 1,
        "outcome": outcome,
        "reason": reason,
        "codes": "{}",
    }
    with home.begin() as connection:
        connection.execute(insert(passes).values(row))


def texts(home: Engine, seconds: float = HOUR) -> list[tuple[str, str, str]]:
    return [(each.what.value, each.subject, each.text) for each in timeline(home, seconds).events]


def test_everything_that_happened_is_one_list_by_time(home: Engine) -> None:
    a_pass(home, 100, "failed", "the database was away")
    audit.record(home, Action.DISABLED, "disable_work", "ann@host", "double charging", {})
    for number, (action, subject) in enumerate(
        [
            (Action.DEPLOYED, "r7"),
            (Action.LEASE_TAKEN, "Items"),
            (Action.FLUSHED, "class Work"),
            (Action.REBUILT, "Items"),
            (Action.REDIS_LOST, "emptied"),
            ("quarantine.release", "Items 7"),
        ]
    ):
        with home.begin() as connection:
            audit.write_down(connection, str(action), subject, "bob", f"why {number}", {"term": 3})

    found = timeline(home, HOUR)

    assert [each.at for each in found.events] == sorted(each.at for each in found.events)
    assert [each.what for each in found.events] == [
        What.PASS,
        What.SWITCH,
        What.DEPLOY,
        What.LEASE,
        What.FLUSH,
        What.REBUILD,
        What.LOSS,
        What.QUARANTINE,
    ]
    assert [(each.who, each.text) for each in found.events[:4]] == [
        ("host:1", "pass failed: the database was away"),
        ("ann@host", "disabled: double charging"),
        ("bob", "deployed: why 0"),
        ("bob", "lease taken, term 3"),
    ]
    assert json.dumps([each.as_json() for each in found.events])


def test_passes_that_ended_alike_one_after_the_other_are_one_event(home: Engine) -> None:
    for ago in (3_000, 600, 540, 480):
        a_pass(home, ago, "gated", f"{ago} jobs wait")
    a_pass(home, 500, "failed", "boom", "Items/eu")
    a_pass(home, 400, "completed")
    a_pass(home, 300, "budget")

    assert texts(home) == [
        ("pass", "Items", "pass gated: 3000 jobs wait"),
        ("pass", "Items", "pass gated 3 times in 2.0 min: 480 jobs wait"),
        ("pass", "Items/eu", "pass failed: boom"),
    ]
    assert timeline(home, HOUR).events[1].times == 3


def test_rows_that_went_into_quarantine_are_told_by_class_and_minute(home: Engine) -> None:
    memory = Memory(home)
    state = State(
        job="Work",
        digest="",
        shard="",
        hold=Hold.QUARANTINED,
        reason=Reason.DIED,
        failures=5,
        error="qik_core.outcomes.Terminal: no such account",
        key="1",
    )
    for number in range(1, 4):
        digest = f"{number:022d}"
        note = {"who": "x", "action": "test", "subject": "x", "reason": "x"}
        memory.keep(replace(state, digest=digest, key=str(number)), note)
    memory.keep(
        replace(state, digest="z" * 22, reason=Reason.OPERATOR),
        {"who": "ann", "action": "quarantine.add", "subject": "Items 9", "reason": "it is odd"},
    )

    found = [each for each in texts(home) if each[0] == "quarantine"]

    assert ("quarantine", "Items 9", "quarantined by hand: it is odd") in found
    mine = [each for each in timeline(home, HOUR).events if each.subject == "Work"]
    assert sum(each.times for each in mine) == 3  # of one minute, or of two
    assert "quarantined (died): Terminal: no such account" in mine[0].text


def test_switches_say_how_long_they_were_on_and_what_they_stopped(home: Engine) -> None:
    details = {"on_for": 7_200.0, "dropped": 5_031}
    audit.record(home, Action.ENABLED, "disable_work", "ann", "it is mended", details)

    assert texts(home) == [
        (
            "switch",
            "disable_work",
            "enabled after 2.0 h, 5,031 jobs were dropped or refused: it is mended",
        )
    ]


def test_a_loss_says_what_nobody_tells_again(home: Engine) -> None:
    details = {"unreconciled": {"Mail": {"queued": 5, "retrying": 1}}}
    audit.record(home, Action.REDIS_LOST, "emptied", "host:1", "Redis was emptied", details)

    assert texts(home) == [
        (
            "loss",
            "emptied",
            "Redis was emptied; no reconciler tells again: Mail queued 5, retrying 1",
        )
    ]


def test_a_flush_says_what_it_removed(home: Engine) -> None:
    audit.record(home, Action.FLUSHED, "all", "ann", "full", {"state": "begun", "jobs": 1_200})
    done = {"state": "ended", "removed": 1_190, "lost": 3, "exported": 0, "seconds": 2.0}
    audit.record(home, Action.FLUSHED, "all", "ann", "full", done)

    assert [text for _, _, text in texts(home)] == [
        "flush began: full; 1,200 jobs",
        "flushed: full; 1,190 jobs removed in 2.0 s, 3 lost",
    ]


def test_a_rebuild_says_how_it_went(home: Engine) -> None:
    audit.record(home, Action.REBUILT, "Items", "ann", "", {"state": "began", "rate": 500.0})
    done = {"state": "completed", "seconds": 12.0, "codes": {"enqueued": 4_000, "told": 1}}
    overridden = {"overridden": ["disable_reconciler_items"], "rate": None}
    audit.record(home, Action.REBUILT, "Items", "ann", "a flush", {**done, **overridden})

    assert [text for _, _, text in texts(home)] == [
        "began at 500 rows/s",
        "completed after 12.0 s, 4,000 rows told, disable_reconciler_items overridden: a flush",
    ]


def test_what_is_older_and_what_is_too_much_is_left_out(home: Engine) -> None:
    for number in range(5):
        audit.record(home, Action.LEASE_TAKEN, f"Items{number}", "host:1", "", {})
    with home.begin() as connection:
        old = update(audit_table).where(audit_table.c.subject == "Items0")
        connection.execute(old.values(at=audit_table.c.at - 2 * HOUR))

    found = timeline(home, HOUR, 3)

    assert [each.subject for each in found.events] == ["Items2", "Items3", "Items4"]
    assert found.left_out == 1
    assert timeline(home, 3 * HOUR).left_out == 0


def test_an_act_of_a_later_release_is_shown_as_it_is(home: Engine) -> None:
    with home.begin() as connection:
        audit.write_down(connection, "moon_phase", "all", "ann", "new moon", {"phase": 0})

    assert timeline(home, HOUR).events == (
        Event(
            at=timeline(home, HOUR).events[0].at,
            what=What.OTHER,
            subject="all",
            text="moon phase: new moon",
            who="ann",
            details={"action": "moon_phase", "phase": 0},
        ),
    )
