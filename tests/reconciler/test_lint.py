"""Each finding of lint: planted once, and absent from an application in which nothing is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select

from qik_core import Job, application, registry
from qik_core.findings import Severity
from reconciler import Backpressure, Freshness, Guard, Quarantine, Reconciler, Shards, derive
from reconciler import registry as reconcilers
from reconciler.engines import Engines
from reconciler.errors import SqlUnavailable
from reconciler.lint import Check, Finding, Seen, ask, lint, missing_timeouts, span_of
from reconciler.status import Last, Standing
from reconciler.units import units
from tests.reconciler.sharded import shard, sharded
from tests.reconciler.shop import Item, Member, fill, items
from tests.reconciler.test_explain import analyze, create

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "lint.md"
OWN = {  # other modules of tests define jobs when they are imported
    str(Path(__file__).resolve()),
    str(Path(__file__).resolve().with_name("shop.py")),
}
PENDING = select(Item.id).where(Item.state == "pending")


def found(standings: Iterable[Standing] = ()) -> list[Finding]:
    """Return what lint finds in what this test has defined."""
    jobs = [each for each in application.jobs() if each.origin[0] in OWN]
    found = [each for each in reconcilers.everything() if each.origin[0] in OWN]
    return lint(Seen(jobs, found, tuple(standings), application.unserved({"default", "work"})))


def checks(findings: Iterable[Finding], severity: Severity | None = None) -> set[Check]:
    return {each.check for each in findings if severity in (None, each.severity)}


def sound() -> None:
    class Work(Job, unique_for=7200, retry=5):
        def perform(self, item_id: int) -> None: ...

    class Items(Reconciler, every=60, jitter=30):
        pending = derive(Work, PENDING)


def unreconciled() -> None:
    class Alone(Job):
        def perform(self) -> None: ...


def needless_reason() -> None:
    class Work(Job, unique_for=7200, retry=5, reconciled=False, reason="it is not needed"):
        def perform(self, item_id: int) -> None: ...

    class Items(Reconciler, every=60, jitter=30):
        pending = derive(Work, PENDING)


def unserved() -> None:
    class Work(Job, queue="Alone", reconciled=False, reason="it is not needed"):
        def perform(self) -> None: ...


def shared_keys() -> None:
    class Work(Job, unique_for=7200, retry=5):
        def perform(self, item_id: int) -> None: ...

    class Here(Reconciler, every=60, jitter=30):
        pending = derive(Work, PENDING)

    class There(Reconciler, every=60, jitter=30, database="other"):
        pending = derive(Work, PENDING)


def never_retried() -> None:
    class Work(Job, unique_for=7200, retry=False):
        def perform(self, item_id: int) -> None: ...

    class Items(Reconciler, every=60, jitter=30):
        pending = derive(Work, PENDING)


def retries_outlast() -> None:
    class Work(Job, unique_for=3600, retry=10):
        def perform(self, item_id: int) -> None: ...

    class Items(Reconciler, every=60, jitter=30):
        pending = derive(Work, PENDING)


def jitter_none() -> None:
    items(PENDING)


def jitter_wide() -> None:
    items(PENDING, every=60, jitter=50, age=Item.since, min_age=60)


def budget_short() -> None:
    items(PENDING, budget=5, statement_timeout=10)


def mark_below_page() -> None:
    items(PENDING, backpressure=Backpressure(high=100), batch_size=200)


def edges_without_age() -> None:
    items(PENDING, edges=True)


def quarantine_far() -> None:
    class Work(Job, unique_for=7200, retry=25):
        def perform(self, item_id: int) -> None: ...

    class Items(Reconciler, every=60, jitter=30):
        pending = derive(Work, PENDING)


def in_shadow() -> None:
    items(PENDING, shadow=True)


def spread(work: type[Job], **options: Any) -> None:
    class Items(Reconciler, every=60, jitter=30, shards=Shards(lambda: {"north": "default"})):
        pending = derive(work, PENDING)  # type: ignore[arg-type]


def shard_optional() -> None:
    class Work(Job, unique_for=7200, retry=5):
        def perform(self, shard: str = "", item_id: int = 0) -> None: ...

    spread(Work)


def shard_missing() -> None:
    class Work(Job, unique_for=7200, retry=5):
        def perform(self, shard: str, item_id: int) -> None: ...

    spread(Work)

    class All(Reconciler, every=60, jitter=30):
        pending = derive(
            Work, select(Item.state, Item.id), key=Item.id, args=lambda row: (str(row[0]), row[1])
        )


def unchecked() -> None:
    items(PENDING, args=lambda row: (int(row.id),))


def unguarded() -> None:
    items(PENDING, guard=Guard.claim(Item.since), recheck=False)


PLANTED: dict[Check, Callable[[], None]] = {
    Check.UNRECONCILED: unreconciled,
    Check.NEEDLESS_REASON: needless_reason,
    Check.UNSERVED: unserved,
    Check.SHARED_KEYS: shared_keys,
    Check.NEVER_RETRIED: never_retried,
    Check.RETRIES_OUTLAST: retries_outlast,
    Check.JITTER_NONE: jitter_none,
    Check.JITTER_WIDE: jitter_wide,
    Check.BUDGET_SHORT: budget_short,
    Check.MARK_LOW: mark_below_page,
    Check.EDGES_WITHOUT_AGE: edges_without_age,
    Check.QUARANTINE_FAR: quarantine_far,
    Check.SHADOW: in_shadow,
    Check.SHARD_OPTIONAL: shard_optional,
    Check.SHARD_MISSING: shard_missing,
    Check.UNCHECKED: unchecked,
    Check.UNGUARDED: unguarded,
}
OF_DATABASES = {
    Check.SLOW_PASS,
    Check.SCAN,
    Check.SORT,
    Check.STATEMENT,
    Check.DATABASE,
    Check.NO_TIMEOUT,
    Check.GUARD_UNSUPPORTED,
}


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    sound()

    assert found() == []


@pytest.mark.parametrize("check", PLANTED)
def test_each_planted_mistake_is_found_with_its_subject_and_remedy(check: Check) -> None:
    PLANTED[check]()

    (seen,) = [each for each in found() if each.check is check]

    assert seen.subject in {"Alone", "Work", "Items"}
    assert seen.what
    assert seen.remedy


def test_every_finding_is_planted_and_has_its_row_in_the_reference() -> None:
    rows = dict(
        re.findall(r"^\| `([\w-]+)` \| (\w+)", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    )

    assert set(PLANTED) | OF_DATABASES == set(Check)
    assert set(rows) == {str(each) for each in Check}
    for check, plant in PLANTED.items():
        with registry.scope(), reconcilers.scope():
            plant()
            (severity,) = {each.severity for each in found() if each.check is check}
        assert rows[check] == severity


def test_a_reason_exempts_a_job() -> None:
    class Warm(Job, reconciled=False, reason="a cold cache is slow, not wrong"):
        def perform(self) -> None: ...

    assert found() == []
    assert "reconciled" not in Warm.definition.fields
    assert "reason" not in Warm.definition.fields


def test_the_span_of_retries_is_sidekiqs_and_ends_with_retry_for() -> None:
    class Short(Job, unique_for=3600, retry=10, retry_for=1800, reconciled=False, reason="x"):
        def perform(self) -> None: ...

    assert span_of(3) == 15 + 16 + 31
    assert found() == []


def test_a_pass_that_takes_longer_than_every_is_found() -> None:
    sound()
    last = Last("completed", "", 1.0, 61.0, 1, {}, {})

    seen = found([Standing("Items", "", "Work", None, 1, None, None, last)])

    assert checks(seen, Severity.WARNING) == {Check.SLOW_PASS}


def test_a_big_table_read_whole_comes_with_its_index_and_what_helps_is_no_finding(
    home: Engine, engines: Engines
) -> None:
    fill(home, range(1, 3_000), state="done")
    fill(home, range(3_000, 3_005))
    defined = [items(PENDING, order_by=Item.rank)]
    analyze(home)
    before = ask(defined, engines, {}, big=2_000).findings
    (ddl,) = [each.remedy for each in before if each.check is Check.SCAN]

    create(home, ddl)
    analyze(home)
    after = ask(defined, engines, {}, big=2_000).findings

    assert {Check.SCAN, Check.SORT} == checks(before)
    assert after == []


def test_a_guard_that_the_database_has_not_is_found(home: Engine, engines: Engines) -> None:
    defined = [items(PENDING, guard=Guard.row_lock())]

    seen = checks(ask(defined, engines, {}).findings, Severity.ERROR)

    assert seen == ({Check.GUARD_UNSUPPORTED} if home.dialect.name == "sqlite" else set())


def test_the_databases_of_shards_are_looked_at(tmp_path: Path, home: Engine) -> None:
    made = shard(tmp_path, "north", 1)
    defined = sharded(lambda: {"north": made, "south": "nowhere"})
    databases = Engines({"default": home})

    parts = list(units([defined], databases))
    gone = {"Items/south": ValueError("no database is called 'nowhere'")}
    seen = ask(parts, databases, gone)
    databases.dispose()

    assert [each.unit for each in parts] == ["Items/north", "Items/south"]
    assert [(each.check, each.subject) for each in seen.findings] == [
        (Check.DATABASE, "Items/south")
    ]


def test_a_statement_that_the_database_refuses_stops_no_other(
    home: Engine, engines: Engines
) -> None:
    class Meet(Job, unique_for=60):
        def perform(self, org_id: int, user_id: int) -> None: ...

    class Members(Reconciler, every=60):
        pending = derive(Meet, select(Member.org_id, Member.user_id).where(Member.email == "x"))

    with home.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE member RENAME COLUMN email TO address")

    answers = ask([Members.definition, items(PENDING)], engines, {})

    assert [(each.check, each.subject) for each in answers.findings] == [
        (Check.STATEMENT, "Members")
    ]
    assert "email" in answers.findings[0].what


def test_a_database_that_is_not_configured_is_a_finding_and_one_that_is_silent_an_error(
    home: Engine, engines: Engines
) -> None:
    silent = SqlUnavailable("silent")
    defined = [items(PENDING, database="other")]

    wrong = ask(defined, engines, {"other": ValueError("no database is called 'other'")})
    away = ask(defined, engines, {"other": silent})

    assert [(each.check, each.subject) for each in wrong.findings] == [(Check.DATABASE, "other")]
    assert (away.findings, away.errors) == ([], [silent])


def test_a_replica_that_is_not_configured_is_a_finding(home: Engine, engines: Engines) -> None:
    defined = [items(PENDING, freshness=Freshness(replica="reporting"))]

    seen = ask(defined, engines, {}).findings

    assert [(each.check, each.subject) for each in seen] == [(Check.DATABASE, "Items")]
    assert "reporting" in seen[0].what


def test_an_engine_without_timeouts_is_found_and_ours_have_them(postgres_url: str) -> None:
    local = postgres_url.partition("host=")[2].partition("&")[0]
    tcp = postgres_url.replace(f"host={local}", "host=127.0.0.1")
    defined = [items(select(Item.id))]
    bare = create_engine(tcp)
    from tests.reconciler.shop import Base

    Base.metadata.create_all(bare)
    mine, ours = Engines({"default": bare}), Engines({"default": tcp})

    seen, none = ask(defined, mine, {}).findings, ask(defined, ours, {}).findings
    bare.dispose()
    ours.dispose()

    assert [each.check for each in seen] == [Check.NO_TIMEOUT]
    assert "'tcp_user_timeout': 30000" in seen[0].remedy
    assert none == []


def test_a_driver_of_mariadb_is_looked_at_too() -> None:
    raw = SimpleNamespace(_read_timeout=None, _write_timeout=30, unix_socket=None)

    assert missing_timeouts("mariadb", raw) == ["read_timeout"]
    assert missing_timeouts("mariadb", SimpleNamespace(**{**vars(raw), "unix_socket": "/x"})) == []
    assert missing_timeouts("sqlite", object()) == []


def test_default_retries_are_one_note_and_fewer_of_them_none() -> None:
    def working(retry: int) -> None:
        class Work(Job, unique_for=3600, retry=retry):
            def perform(self, item_id: int) -> None: ...

        class Items(Reconciler, every=60, jitter=30):
            pending = derive(Work, PENDING)

        class Others(Reconciler, every=60, jitter=30):
            pending = derive(Work, PENDING)

    working(25)
    (seen,) = found()
    working(5)

    assert (seen.check, seen.subject) == (Check.QUARANTINE_FAR, "Work")
    assert "It is unique for 1.0 h" in seen.what
    assert found() == []


def test_the_number_of_deaths_that_is_advised_ends_the_finding() -> None:
    def working(quarantine: Quarantine) -> None:
        class Work(Job, unique_for=timedelta(days=8), retry=20):
            def perform(self, item_id: int) -> None: ...

        class Items(Reconciler, every=60, jitter=30, quarantine=quarantine):
            pending = derive(Work, PENDING)

    working(Quarantine())
    (seen,) = found()
    advised = re.search(r"Quarantine\(after=(\d+)\)", seen.remedy)
    assert advised is not None
    working(Quarantine(after=int(advised[1])))

    assert found() == []
