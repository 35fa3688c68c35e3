from __future__ import annotations

from typing import Any

import pytest

from qik_core.store import Epoch, Store
from qik_core.store.epoch import lineage, new_loss
from qik_core.store.flush import FlushStore


@pytest.fixture
def flush(redis_url: str) -> FlushStore:
    """A flush that has its turn."""
    flush = FlushStore(Store(redis_url), "ann")
    flush.turn()
    return flush


def test_a_loss_id_is_another_each_time_and_one_behind_a_flush_says_behind_which() -> None:
    first = new_loss()
    second = new_loss(first)
    third = new_loss(second)

    assert len({first, second, third, new_loss(), new_loss(first)}) == 5
    assert lineage(first) == lineage(second) == lineage(third) == first
    assert len(third) == len(second)


def test_a_flush_of_everything_makes_a_loss_id_that_says_so(
    redis_url: str, flush: FlushStore
) -> None:
    store = Store(redis_url)
    before = store.look()
    made = [flush.renew(before.loss), flush.renew(before.loss)]

    assert made[0] == made[1] == store.look()  # sent twice, it is done once
    assert made[0].loss != before.loss
    assert lineage(made[0].loss) == before.loss


def test_an_epoch_that_was_lost_under_a_flush_is_not_one_of_its_own(
    redis_url: str, flush: FlushStore, raw: Any
) -> None:
    before = Store(redis_url).look()
    raw.flushall()
    made = [flush.renew(before.loss), Epoch.parse(raw.get("qik:epoch"))]

    assert made[0] == made[1]
    assert before.loss not in {made[0].loss, lineage(made[0].loss)}
