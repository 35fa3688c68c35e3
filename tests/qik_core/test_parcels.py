"""What the client chain makes of jobs on their way to the store."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from qik_core.client import Client
from qik_core.errors import NotEnqueued
from qik_core.middleware import ClientResult, Next
from qik_core.payload import Payload
from qik_core.plan import Plan
from qik_core.results import Code, Duplicate, Enqueued, Refused
from qik_core.settings import Settings
from qik_core.store import Store
from tests.qik_core.jobs_of_tests import TakesAnything, TakesInt, UniqueInt, names, stored
from tests.qik_core.pushing import pusher, store, with_chain

__all__ = ["pusher", "store"]

PLAIN = Plan()


def untouched(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
    return call_next(job)


def to_other_queue(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
    return call_next(job.replace(queue="odd" if job.args[0] % 2 else "even", tenant="acme"))


def refuses_odd(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
    return Refused("odd", "no odd numbers") if job.args[0] % 2 else call_next(job)


def doubles(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
    return call_next(job.replace(args=[job.args[0] * 2, *job.args[1:]]))


def test_a_chain_that_changes_nothing_changes_nothing(store: Store, raw: redis.Redis) -> None:
    for each in (with_chain(store, untouched), with_chain(store)):
        each.push(TakesInt, [7], expires_in=60)

    one, other = stored(raw, "queue:ints")
    own = dict.fromkeys(("jid", "created_at", "enqueued_at", "expiry"))
    assert list(one) == list(other)
    assert {**one, **own} == {**other, **own}


def test_a_refused_job_reaches_nothing(store: Store, raw: redis.Redis) -> None:
    result = with_chain(store, refuses_odd).push(TakesInt, [7])

    assert result == Refused("odd", "no odd numbers")
    assert not result
    assert names(raw) == []


def test_bulk_refuses_item_by_item(store: Store, raw: redis.Redis) -> None:
    result = with_chain(store, refuses_odd).bulk(
        TakesInt.definition, [(n,) for n in range(1001)], PLAIN
    )

    assert result.codes == [Code.REFUSED if n % 2 else Code.ENQUEUED for n in range(1001)]
    assert [bool(jid) for jid in result.jids] == [n % 2 == 0 for n in range(1001)]
    assert not result.told
    assert raw.llen("queue:ints") == 501


def test_jobs_that_change_their_queue_keep_their_place_in_the_answer(
    store: Store, raw: redis.Redis
) -> None:
    result = with_chain(store, to_other_queue, refuses_odd).bulk(
        TakesInt.definition, [(n,) for n in (1, 2, 3, 4)], PLAIN
    )

    assert result.codes == [Code.REFUSED, Code.ENQUEUED, Code.REFUSED, Code.ENQUEUED]
    assert [
        (each["args"], each["queue"], each["tenant"]) for each in stored(raw, "queue:even")
    ] == [
        ([4], "even", "acme"),
        ([2], "even", "acme"),
    ]
    assert [each["jid"] for each in stored(raw, "queue:even")] == [result.jids[3], result.jids[1]]


def test_changed_arguments_are_another_key(store: Store, raw: redis.Redis) -> None:
    changed = with_chain(store, doubles)

    assert isinstance(changed.push(UniqueInt, [2]), Enqueued)
    assert isinstance(Client(store).push(UniqueInt, [4]), Duplicate)
    assert isinstance(changed.push(UniqueInt, [2]), Duplicate)
    assert [each["args"] for each in stored(raw, "queue:unique")] == [[4, False]]


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"args": [object()]}, "object"),
    ({"args": (7,)}, "tuple"),
    ({"args": [7, 8, 9]}, "3 arguments"),
    ({"args": ["7"]}, "int is wanted"),
    ({"args": [float("nan")]}, "nan"),
    ({"args": None}, "must be a list"),
    ({"queue": "a b"}, "cannot be a name"),
    ({"queue": None}, "cannot be a name"),
    ({"class": "Other"}, "`class` must stay"),
    ({"jid": "other"}, "`jid` must stay"),
    ({"qik": "-" * 22 + "S60"}, "`qik` must stay"),
    ({"note": {1: 2}}, "key of type int"),
    ({"note": b"x"}, "base64"),
    ({"note": "x" * 1_048_577}, "larger than"),
]


@pytest.mark.parametrize(("changes", "text"), CHANGES, ids=range(len(CHANGES)))
def test_what_a_middleware_changed_is_checked_as_strictly(
    changes: dict[str, Any], text: str, store: Store, raw: redis.Redis
) -> None:
    def change(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        return call_next(job.replace(**changes))

    for job in (TakesInt, UniqueInt):
        with pytest.raises(NotEnqueued, match="as the client middleware changed it") as caught:
            with_chain(store, change).push(job, [7])
        assert text in str(caught.value)

    assert names(raw) == []


def test_a_payload_that_a_middleware_changed_in_place_is_checked_too(
    store: Store, raw: redis.Redis
) -> None:
    def in_place(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        job.args.append({1, 2})
        return call_next(job)

    with pytest.raises(NotEnqueued, match="set"):
        with_chain(store, in_place).push(TakesAnything, [7])

    assert names(raw) == []


def test_a_middleware_that_raises_in_bulk_leaves_earlier_batches_written(
    store: Store, raw: redis.Redis
) -> None:
    def until_15(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        if job.args[0] == 15:
            raise LookupError
        return call_next(job)

    with pytest.raises(NotEnqueued, match="until_15 raised LookupError") as caught:
        with_chain(store, until_15).bulk(
            TakesInt.definition, [(n,) for n in range(30)], PLAIN, batch_size=10
        )

    assert caught.value.__notes__ == [
        "at item 5 of its batch",
        "perform_bulk: 10 items of earlier batches were written",
    ]
    assert raw.llen("queue:ints") == 10


def test_what_a_middleware_adds_counts_for_the_size(store: Store, raw: redis.Redis) -> None:
    def adds(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        return call_next(job.replace(note="\n" * 950))

    pusher = Client(store, Settings(max_payload=2_000, client_middleware=(adds,)))

    with pytest.raises(NotEnqueued, match=r"payload is larger than 2,000 bytes as JSON \(2,0\d\d"):
        pusher.push(TakesInt, [7])

    assert names(raw) == []
