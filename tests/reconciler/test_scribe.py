from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from qik_core import settings
from qik_core.passes import Passes
from qik_core.settings import Settings
from reconciler import audit, lost
from reconciler import scribe as scribing
from reconciler.engines import Engines
from reconciler.errors import NotMigrated
from reconciler.lost import RedisLoss
from reconciler.scribe import Scribe
from tests.reconciler.running import Running
from tests.reconciler.shop import Item, fill, items
from tests.waiting import eventually


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here: the audit is tested on each."""
    return sqlite_url


@pytest.fixture
def release() -> Iterator[Any]:
    """Sets the release of the application."""

    def set_(name: str | None) -> None:
        settings.use(Settings(release=name))

    yield set_
    settings.use(None)


def deployed(home: Engine) -> list[tuple[str, str]]:
    return [(each.subject, each.reason) for each in audit.read(home, 0.0, actions=["deployed"])]


def test_a_release_is_noted_by_the_first_process_that_runs_it(
    home: Engine, seam: Passes, release: Any
) -> None:
    for name, version in (
        ("r1", "0.1"),
        ("r1", "0.1"),
        ("r2", "0.1"),
        ("r2", "0.2"),
        (None, "0.2"),
    ):
        release(name)
        scribe = Scribe(home, seam, "me")
        scribe.begin(version)
        scribe.once()

    assert deployed(home) == [
        ("r1", "release r1, version 0.1"),
        ("r2", "release r2, version 0.1; before: release r1, version 0.1"),
        ("r2", "release r2, version 0.2; before: release r2, version 0.1"),
        ("0.2", "release -, version 0.2; before: release r2, version 0.2"),
    ]


def test_leases_that_were_taken_together_are_one_entry(home: Engine, seam: Passes) -> None:
    scribe = Scribe(home, seam, "me")
    scribe.took({"Items": 3, "Mails": 1})
    scribe.took({"Items": 3})  # its renewal came late
    scribe.took({"Items": 4})
    scribe.took({})
    scribe.once()

    entries = audit.read(home, 0.0)
    assert [(each.action, each.subject, each.who) for each in entries] == [
        ("lease_taken", "2 reconcilers", "me"),
        ("lease_taken", "Items", "me"),
    ]
    assert entries[0].details["units"] == {"Items": 3, "Mails": 1}
    assert entries[1].details["term"] == 4


def test_what_cannot_be_written_waits_for_sql(home: Engine, seam: Passes) -> None:
    scribe = Scribe(home, seam, "me")
    scribe.took({"Items": 1})
    with home.begin() as connection:
        connection.execute(text("ALTER TABLE reconciler_audit RENAME TO reconciler_gone"))
    for _ in range(2):
        with pytest.raises(NotMigrated):
            scribe.once()
    with home.begin() as connection:
        connection.execute(text("ALTER TABLE reconciler_gone RENAME TO reconciler_audit"))
    scribe.once()
    scribe.once()

    assert [each.action for each in audit.read(home, 0.0)] == ["lease_taken"]


def test_a_process_of_reconcilers_tells_of_a_loss_and_heals_it(
    home: Engine, engines: Engines, seam: Passes, raw: Any
) -> None:
    heard: list[RedisLoss] = []
    lost.on_redis_loss(heard.append)
    fill(home, range(1, 11))
    definition = items(select(Item.id).where(Item.state == "pending"), every=3600)
    running = Running([definition], engines, seam, 30.0)
    try:
        eventually(lambda: raw.llen("queue:work") == 10, 30.0)
        eventually(lambda: raw.exists("qik:witness"), 30.0)
        raw.flushall()
        eventually(lambda: raw.llen("queue:work") == 10, 30.0)
        eventually(lambda: heard, 30.0)
    finally:
        running.stop()
        lost.clear()
    actions = [each.action for each in audit.read(home, 0.0)]
    assert sorted(actions) == ["deployed", "lease_taken", "redis_lost"]
    assert heard[0].text.startswith("Redis was emptied")
    assert raw.hkeys("qik:witness") in ([], [b"sql"])


def test_an_old_copy_has_every_pass_run_at_once(
    home: Engine, engines: Engines, seam: Passes, raw: Any
) -> None:
    definition = items(select(Item.id).where(Item.state == "pending"), every=3600)
    running = Running([definition], engines, seam, 30.0)

    def wait_for_another(mark: bytes) -> None:
        eventually(lambda: raw.hget("qik:witness", running.manager.holder) != mark, 30.0)

    try:
        eventually(lambda: raw.exists("qik:witness") and running.reports, 30.0)
        old = {key: raw.dump(key) for key in raw.scan_iter()}
        fill(home, range(1, 11))
        running.manager._wake_all()
        eventually(lambda: raw.llen("queue:work") == 10, 30.0)
        before, me = raw.hgetall("qik:witness"), running.manager.holder
        for _ in range(2):  # what it wrote then has been answered
            wait_for_another(before[me.encode()])
            before = raw.hgetall("qik:witness")
        with raw.pipeline(transaction=True) as restore:
            restore.flushall()
            for key, value in old.items():
                restore.restore(key, 0, value)
            restore.execute()

        eventually(lambda: raw.llen("queue:work") == 10, 30.0)
        eventually(lambda: [e.subject for e in audit.read(home, 0.0)][-1] == "went_back", 30.0)
    finally:
        running.stop()


def test_a_release_that_could_not_be_written_down_is_noted_when_sql_is_back(
    home: Engine, seam: Passes, release: Any
) -> None:
    release("r1")
    scribe = Scribe(home, seam, "me")
    scribe.begin("0.1")
    with home.begin() as connection:
        connection.execute(text("ALTER TABLE reconciler_audit RENAME TO reconciler_gone"))
    with pytest.raises(NotMigrated):
        scribe.once()
    with home.begin() as connection:
        connection.execute(text("ALTER TABLE reconciler_gone RENAME TO reconciler_audit"))
    scribe.once()

    assert deployed(home) == [("r1", "release r1, version 0.1")]


def test_what_can_never_be_written_is_reported_and_hinders_nothing_behind_it(
    home: Engine, seam: Passes, caplog: pytest.LogCaptureFixture
) -> None:
    scribe = Scribe(home, seam, "me")
    scribe.took({"Items": {1}})  # type: ignore[dict-item]
    scribe.took({"Mails": 1})
    scribe.once()
    scribe.once()

    assert [each.subject for each in audit.read(home, 0.0)] == ["Mails"]
    assert caplog.text.count("the scribe met a defect; it goes on") == 1
    assert "TypeError" in caplog.text


def test_what_is_dropped_for_newer_things_while_it_is_written_takes_none_of_them_along(
    home: Engine, seam: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scribing, "_MOST", 3)
    scribe = Scribe(home, seam, "me")

    def overtaken() -> None:
        for term in (1, 2, 3):
            scribe.took({"Mails": term})

    scribe._later(overtaken)
    scribe.once()

    assert [each.details["term"] for each in audit.read(home, 0.0)] == [1, 2, 3]
