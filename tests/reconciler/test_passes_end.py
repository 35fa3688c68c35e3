from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine, event, func, insert, literal_column, select, text

from qik_core import Code, Job
from qik_core.answers import Answers
from qik_core.embedded import Embedded
from qik_core.errors import StoreError
from qik_core.passes import Passes, Telling
from reconciler import Reconciler, derive
from reconciler.definition import Definition
from reconciler.passes import Pass, Tools
from reconciler.report import Outcome, Report
from reconciler.tables import passes
from tests.reconciler import tables
from tests.reconciler.shop import Item, Member, fill, items
from tests.waiting import eventually

PENDING = select(Item.id).where(Item.state == "pending")


def run(definition: Definition, tools: Tools, standing: Callable[[], Any] = lambda: None) -> Report:
    return Pass(definition, tools, 1, standing).run()


class Between(Passes):
    """The real seam; `do` is called before each push."""

    def __init__(self, seam: Passes, do: Callable[[], object]) -> None:
        super().__init__(seam._store)
        self.do = do

    def start(self, *args: Any, **options: Any) -> Telling:
        self.do()
        return super().start(*args, **options)


def test_an_empty_table_completes_a_pass(home: Engine, tools: Tools) -> None:
    report = run(items(PENDING), tools)

    assert (report.outcome, report.scanned) == (Outcome.COMPLETED, 0)


def test_a_last_page_that_is_full_is_followed_by_an_empty_one(home: Engine, tools: Tools) -> None:
    fill(home, range(1, 21))

    report = run(items(PENDING, batch_size=10), tools)

    assert (report.outcome, report.pages) == (Outcome.COMPLETED, 3)


def test_data_lost_during_a_pass_ends_it_as_restarted(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, range(1, 31))
    flushed = threading.Event()

    def flush_once() -> None:
        if not flushed.is_set():
            flushed.set()
            raw.flushall()

    definition = items(PENDING, batch_size=10)
    report = run(definition, replace(tools, seam=Between(tools.seam, flush_once)))

    assert report.outcome is Outcome.RESTARTED
    assert run(definition, tools).codes == {"told": 10, "enqueued": 20}


def test_a_process_that_is_deposed_pushes_no_further_chunk(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 31))
    stop: list[tuple[Outcome, str]] = []
    seam = Between(tools.seam, lambda: stop.append((Outcome.DEPOSED, "the lease is gone")))

    report = run(
        items(PENDING, batch_size=10), replace(tools, seam=seam), lambda: stop[0] if stop else None
    )

    assert (report.outcome, report.reason) == (Outcome.DEPOSED, "the lease is gone")
    assert raw.llen("queue:work") == 10


def test_a_pass_whose_time_is_up_is_taken_up_where_it_stood(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 31))
    definition = items(PENDING, batch_size=10, budget=0.000001)

    first, second, third, last = (run(definition, tools) for _ in range(4))

    assert [each.outcome for each in (first, second, third)] == [Outcome.BUDGET] * 3
    assert last.outcome is Outcome.COMPLETED
    assert [each.scanned for each in (first, second, third, last)] == [10, 10, 10, 0]
    assert raw.llen("queue:work") == 30


def test_a_cursor_is_not_used_after_a_loss(home: Engine, tools: Tools, raw: Any) -> None:
    fill(home, range(1, 31))
    definition = items(PENDING, batch_size=10, budget=0.000001)
    run(definition, tools)

    raw.flushall()
    run(definition, tools)

    assert raw.llen("queue:work") == 10
    assert b'"args":[1]' in raw.lrange("queue:work", -1, -1)[0]


def test_a_renamed_column_fails_the_pass_with_its_reason(home: Engine, tools: Tools) -> None:
    report = run(items(select(Item.id).where(literal_column("gone") == 1)), tools)

    assert report.outcome is Outcome.FAILED
    assert "gone" in report.reason


def test_redis_being_away_fails_the_pass_and_the_ledger_says_so(
    home: Engine, tools: Tools, redis_server: Embedded
) -> None:
    fill(home, [1])
    redis_server.kill()

    report = run(items(PENDING), tools)

    assert report.outcome is Outcome.FAILED
    assert isinstance(report.error, StoreError)
    with home.connect() as connection:
        row = connection.execute(select(passes)).one()
    assert (row.outcome, row.reason) == ("failed", report.reason)


def test_an_application_that_raises_in_args_fails_its_own_pass_only(
    home: Engine, tools: Tools
) -> None:
    fill(home, [1])

    class Broken(Job, unique_for=60):
        def perform(self, item_id: int) -> None: ...

    class Brokens(Reconciler, every=60):
        pending = derive(Broken, select(Item.id), args=lambda row: (1 // 0,))

    report = run(Brokens.definition, tools)

    assert report.outcome is Outcome.FAILED
    assert report.reason.startswith("ZeroDivisionError")


def test_a_full_redis_gates_the_pass_and_the_rest_stays_in_sql(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 2_001))
    tools.watch.look()
    raw.config_set("maxmemory", 1)

    report = run(items(PENDING), tools)

    assert report.outcome is Outcome.GATED
    assert report.reason == "Redis is 100% full, passes wait from 80% on; the rest stays in SQL"
    assert raw.llen("queue:work") == 0


def test_a_queue_that_is_full_gates_the_pass(home: Engine, tools: Tools) -> None:
    fill(home, range(1, 31))

    class Full(Passes):
        def start(self, job: Any, rows: Any, **options: Any) -> Telling:
            return Telling(Answers([Code.FULL] * len(rows)), self.look)

    report = run(items(PENDING, batch_size=10), replace(tools, seam=Full(tools.seam._store)))

    assert (report.outcome, report.codes) == (Outcome.GATED, {"full": 10})


# --- slow databases -------------------------------------------------------------------------------


def _slow_above(home: Engine, rows: int) -> None:
    """Make a page of more than so many rows take for ever."""

    @event.listens_for(home, "before_cursor_execute", retval=True)
    def delay(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> Any:
        values = parameters.values() if isinstance(parameters, dict) else parameters
        size = max((each for each in values if isinstance(each, int)), default=0)
        if "FROM item" in statement and size > rows:
            pause = {
                "mariadb": "(SELECT SLEEP(30)) = 0",
                "postgresql": "(SELECT 1 FROM pg_sleep(30)) = 1",
                "sqlite": "(WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n) = 1",
            }[home.dialect.name]
            statement = statement.replace("WHERE", f"WHERE {pause} AND", 1)
        return statement, parameters


def test_a_page_that_is_too_slow_is_halved_until_it_is_not(home: Engine, tools: Tools) -> None:
    fill(home, range(-400, 0))
    _slow_above(home, 100)

    report = run(items(PENDING, batch_size=400, statement_timeout=0.2), tools)

    assert report.outcome is Outcome.COMPLETED
    assert report.page_size == 100
    assert report.codes == {"enqueued": 400}


def test_a_page_that_stays_slow_at_the_smallest_size_fails_the_pass(
    home: Engine, tools: Tools
) -> None:
    fill(home, range(-400, 0))
    _slow_above(home, 10)
    began = time.monotonic()

    report = run(items(PENDING, batch_size=100, statement_timeout=0.1), tools)

    assert report.outcome is Outcome.FAILED
    assert "too long" in report.reason
    assert time.monotonic() - began < 5.0


IDLE = """SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND state LIKE 'idle in transaction%'"""


def test_no_transaction_stays_open_while_rows_are_pushed(postgres_url: str, seam: Passes) -> None:
    from reconciler.engines import Engines

    engines = Engines({"default": postgres_url})
    home = engines.home()
    tables.make(home)
    fill(home, range(1, 31))
    looks: list[bool] = []

    def idle() -> int:
        with home.connect() as connection:
            return int(connection.execute(text(IDLE)).scalar_one())

    def look() -> (
        None
    ):  # the page behind is read meanwhile: its transaction ends though this push does not
        looks.append(eventually(lambda: idle() == 0))

    tools = replace(Tools.of(seam, engines, "test"), seam=Between(seam, look))
    report = run(items(PENDING, batch_size=10), tools)
    engines.dispose()

    assert report.outcome is Outcome.COMPLETED
    assert looks == [True] * 3


# --- jobs that were deleted by hand ---------------------------------------------------------------


def test_jobs_deleted_under_their_locks_are_told_again_by_the_same_pass(
    home: Engine, tools: Tools, raw: Any
) -> None:
    fill(home, range(1, 101))
    definition = items(PENDING)
    run(definition, tools)
    raw.delete("queue:work")

    report = run(definition, tools)

    assert report.codes == {"enqueued": 100}
    assert "deleted by hand" in report.reason
    assert raw.llen("queue:work") == 100


def test_a_grouped_query_can_be_reconciled(home: Engine, tools: Tools) -> None:
    fill(home, range(1, 5))
    with home.begin() as connection:
        connection.execute(
            insert(Member),
            [
                {
                    "org_id": org,
                    "user_id": user,
                    "email": f"{org}{user}",
                    "token": uuid4(),
                }
                for org in (1, 2)
                for user in (1, 2, 3)
            ],
        )

    class Org(Job, unique_for=60):
        def perform(self, org_id: int) -> None: ...

    class Orgs(Reconciler, every=60, batch_size=1):
        pending = derive(
            Org,
            select(Member.org_id).group_by(Member.org_id).having(func.count() > 2),
            key=Member.org_id,
        )

    assert run(Orgs.definition, tools).codes == {"enqueued": 2}


def test_a_ledger_that_cannot_take_the_end_of_a_pass_is_a_failed_pass_and_no_more(
    home: Engine, tools: Tools
) -> None:
    with home.begin() as connection:
        connection.execute(text("ALTER TABLE reconciler_pass DROP COLUMN pages"))

    report = run(items(PENDING), tools)

    assert report.outcome is Outcome.FAILED
    assert "pages" in report.reason
