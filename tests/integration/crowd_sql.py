"""A database that is as full as it gets, for what must not take longer there: what a week of many reconcilers leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, text

from qik_core.switches import Rule
from reconciler.switches.rules import plain
from tests.reconciler import tables
from tests.servers import Postgres

RECONCILERS, PASSES, HELD_BACK, QUARANTINED, ACTS = 50, 200_000, 200_000, 10_000, 10_000
NOTES, SWITCHES, ROWS = 50_000, 1_000, 200_000

_NOW: Final = "extract(epoch from clock_timestamp())"
_NAME: Final = f"CASE n % {RECONCILERS} WHEN 0 THEN 'Items' ELSE 'Items' || n % {RECONCILERS} END"
_CLASS: Final = f"CASE n % {RECONCILERS} WHEN 0 THEN 'Work' ELSE 'Work' || n % {RECONCILERS} END"
_DAYS: Final = 7 * 86_400.0
_ENDED: Final = {
    "oldest_pending_age": 90.5,
    "oldest_untold_age": 12.5,
    "reading": 0.5,
    "telling": 0.5,
    "pushed": 40,
    "rate": 20_000.0,
    "drift": {"flush": 7, "crash": 1},
    "waiting": 3_800,
    "quarantined": 200,
    "pending": 4_000,
    "untold": 40,
    "time_to_whole": 3.5,
}
_SQL: Final = (
    "INSERT INTO item (id, state, rank, version) SELECT n, 'pending', 0, 1 FROM generate_series(1, :rows) n",
    f"""INSERT INTO reconciler_lease (reconciler, holder, term, expires_at, taken_at)
        SELECT {_NAME}, 'host-1:4711:0123456789ab', 7, {_NOW} + 86400, {_NOW} FROM generate_series(1, :reconcilers) n""",
    f"""INSERT INTO reconciler_pass (reconciler, job_class, holder, term, epoch, started_at, ended_at, outcome, reason,
            scanned, pages, page_size, codes, details)
        SELECT {_NAME}, {_CLASS}, 'host-1:4711:0123456789ab', 7, 'e', at, at + 1,
            CASE WHEN n % 20 = 0 THEN 'failed' ELSE 'completed' END,
            repeat('no answer ', CASE WHEN n % 20 = 0 THEN 20 ELSE 0 END),
            4000, 4, 1000, '{{"enqueued": 40, "duplicate": 3960}}', :ended
        FROM (SELECT n, {_NOW} - {_DAYS} * (1 - n / CAST(:passes AS float)) - 2 AS at FROM generate_series(1, :passes) n) each
        ORDER BY n""",
    f"""INSERT INTO reconciler_row_state (job_class, key_digest, key, failures, next_at, state, reason, last_jid, first_at,
            last_at, error)
        SELECT {_CLASS}, md5(n::text), 'id=' || n, 5, {_NOW} + 3600,
            CASE WHEN n <= :quarantined THEN 'quarantined' ELSE 'waiting' END, 'died', md5(n::text),
            {_NOW} - 7200, {_NOW} - n % 7200, repeat('the bank does not answer ', 20)
        FROM generate_series(1, :held) n""",
    f"""INSERT INTO reconciler_audit (at, who, action, subject, reason, details)
        SELECT {_NOW} - n % 7200, 'ada@example.com', (ARRAY['disabled', 'enabled', 'released', 'redis_lost'])[1 + n % 4],
            'Items' || n % 50, repeat('because of the bank ', 10), '{{"state": "ended", "rows": 7}}'
        FROM generate_series(1, :acts) n""",
    f"""INSERT INTO reconciler_note (kind, name, value, at)
        SELECT 'rebuild', 'Items' || n, '{{"cursor": "[4711]", "scanned": 4711}}', {_NOW} FROM generate_series(1, :notes) n""",
    f"""INSERT INTO reconciler_switch (name, source, value, disabled, who, reason, set_at)
        SELECT 'disable_work' || n, 'sql', :rule, true, 'ada', 'the bank', {_NOW} - n FROM generate_series(1, :switches) n""",
)  # fmt: skip


def fill(home: Engine) -> None:
    """Fill our tables, and one of the application's."""
    tables.make(home)
    rule = Rule(source="sql", who="ada@example.com", reason="the bank does not answer " * 4)
    given: dict[str, Any] = {
        "reconcilers": RECONCILERS,
        "passes": PASSES,
        "held": HELD_BACK,
        "quarantined": QUARANTINED,
        "acts": ACTS,
        "notes": NOTES,
        "switches": SWITCHES,
        "rows": ROWS,
        "ended": json.dumps(_ENDED),
        "rule": json.dumps({"rules": [plain(rule)], "counted": 7}),
    }
    with home.begin() as connection:
        for statement in _SQL:
            wanted = text(statement)
            connection.execute(wanted, {name: given[name] for name in wanted.compile().params})
        connection.execute(text("ANALYZE"))


def cpu(postgres: Postgres) -> float:
    """Return the CPU seconds of a server: of its first process, of those that have ended, and of those that run."""
    first = int((postgres.folder / "data" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    ticks = _ticks(first, 4) + sum(_ticks(int(each), 2) for each in children)
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int, fields: int) -> int:
    """Return the first so many of: user's, system's, and those of ended children."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, after_name.split()[11 : 11 + fields]))
