from __future__ import annotations

from typing import Any

import pytest

from qik_core.store.flush import FlushStore, Home, Place, home_of
from tests.qik_core.store.rig import Rig, jid

QUEUE = Home(Place.QUEUED, b"queue:default")


@pytest.fixture
def flush(rig: Rig) -> FlushStore:
    made = FlushStore(rig.store, "alice")
    made.turn()
    return made


def rows(raw: Any, key: str) -> list[tuple[str, float | None, bytes]]:
    """Take all jobs of a key out by hand, as rows of an export."""
    if raw.type(key) == b"list":
        found: Any = [(each, None) for each in raw.lrange(key, 0, -1)]
    else:
        found = raw.zrange(key, 0, -1, withscores=True)
    raw.delete(key, f"qik:n:{key}")
    return [(each.split(b'"jid":"')[1][:24].decode(), score, each) for each, score in found]


@pytest.mark.parametrize("key", ["queue:default", "schedule", "retry", "dead", "qik:later:default"])
def test_jobs_come_back_where_they_were_each_once(
    rig: Rig, flush: FlushStore, raw: Any, key: str
) -> None:
    home = home_of(key.encode())
    assert home is not None
    rig.push(1, 2, 3) if home.is_list else rig.push(1, 2, 3, delays=[60, 61, 62])
    if not home.is_list and key != "schedule":
        raw.rename("schedule", key)
        raw.delete("qik:n:schedule")
    before = raw.dump(key)
    jobs = rows(raw, key)
    flush.renew(rig.store.look().loss)

    first = flush.restore("0123456789ab", home, jobs)
    second = flush.restore("0123456789ab", home, jobs)

    assert first == ["1", "1", "1"]
    assert second == ["0", "0", "0"]
    assert raw.dump(key) == before
    assert rig.locks() == (0 if key == "dead" else 3)
    assert raw.get(f"qik:n:{key}") == (None if key == "dead" else b"3")
    assert 0 < raw.ttl("qik:restored:0123456789ab") <= 30 * 86_400


def test_a_job_that_was_put_back_and_has_run_does_not_come_back_again(
    rig: Rig, flush: FlushStore, raw: Any
) -> None:
    rig.push(1, unique=False)
    jobs = rows(raw, "queue:default")
    flush.restore("0123456789ab", QUEUE, jobs)
    raw.delete("queue:default")

    assert flush.restore("0123456789ab", QUEUE, jobs) == ["0"]
    assert flush.restore("ba9876543210", QUEUE, jobs) == ["1"], "another file is another matter"


def test_a_job_whose_key_another_one_holds_stays_out_and_says_whose_it_is(
    rig: Rig, flush: FlushStore, raw: Any
) -> None:
    rig.push(1, 2)
    jobs = rows(raw, "queue:default")
    flush.renew(rig.store.look().loss)
    rig.push(11, keys=[1])

    answers = flush.restore("0123456789ab", QUEUE, [*jobs, *jobs])

    assert sorted(answers) == sorted(["1", "0", f"={jid(11).decode()}", f"={jid(11).decode()}"])
    assert rig.queued() == [jid(2).decode(), jid(11).decode()]


def test_a_key_is_taken_by_the_first_of_a_file_that_wants_it(
    rig: Rig, flush: FlushStore, raw: Any
) -> None:
    rig.push(1)
    first = rows(raw, "queue:default")
    flush.renew(rig.store.look().loss)
    rig.push(2, keys=[1])
    second = rows(raw, "queue:default")
    flush.renew(rig.store.look().loss)

    assert flush.restore("0123456789ab", QUEUE, [*first, *second]) == ["1", f"={jid(1).decode()}"]
