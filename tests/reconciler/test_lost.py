from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from qik_core.errors import DefinitionError
from qik_core.passes import Witness
from qik_core.store import Epoch
from reconciler import lost
from reconciler.lost import LossKind, RedisLoss, Seen, judge, on_redis_loss

EPOCH = Epoch("a1", "g1", None, 1_000)
WITNESS = Witness(epoch=EPOCH, time=9.0, now=9_000, before=8_000, lost_exchanges=0, deleted=0)
SEEN = Seen(loss="a1", birth_ms=1_000, number=8_000, life="run1")
NEW = Epoch("b2", "g2", None, 8_500)
OLDER = Epoch("00", "g0", None, 500)
LOSS = RedisLoss(kind=LossKind.EMPTIED, text="Redis was emptied", at=9.0, loss="b2")


@pytest.fixture(autouse=True)
def _no_handlers() -> Iterator[None]:
    yield
    lost.clear()


@pytest.mark.parametrize(
    ("now", "life", "kind"),
    [
        (WITNESS, "run1", None),
        (replace(WITNESS, before=8_001), "run1", None),
        (WITNESS, "run2", None),
        (replace(WITNESS, epoch=EPOCH._replace(generation="g9")), "run1", None),
        (replace(WITNESS, epoch=NEW, before=None), "run1", LossKind.EMPTIED),
        (replace(WITNESS, epoch=NEW, before=None), "run2", LossKind.CAME_EMPTY),
        (replace(WITNESS, before=7_000), "run1", LossKind.WENT_BACK),
        (replace(WITNESS, before=None), "run2", LossKind.WENT_BACK),
        (replace(WITNESS, before=None), "run1", None),
        (replace(WITNESS, epoch=OLDER, before=None), "run2", LossKind.WENT_BACK),
        (replace(WITNESS, epoch=NEW), "run1", LossKind.LOCKS),
        (replace(WITNESS, epoch=NEW, before=8_600), "run1", LossKind.EMPTIED),
        (replace(WITNESS, deleted=3), "run1", LossKind.JOBS),
        (replace(WITNESS, lost_exchanges=1), "run1", LossKind.HELD),
    ],
    ids=[
        "nothing",
        "a lost reply",
        "a failover that lost nothing",
        "a roll",
        "FLUSHALL",
        "an empty restart",
        "an old copy",
        "an old copy from before this process",
        "a mark deleted by hand",
        "an old copy of an older life",
        "locks deleted by hand",
        "a mark left since the loss",
        "jobs deleted by hand",
        "a working hash deleted by hand",
    ],
)
def test_what_was_lost_is_told_by_epoch_mark_and_counts(
    now: Witness, life: str, kind: LossKind | None
) -> None:
    noticed = judge(SEEN, now, life)

    assert (None if noticed is None else noticed.kind) is kind


@pytest.mark.parametrize(
    ("before", "now", "on_purpose"),
    [
        ("a1", "b2~a1", True),
        ("b2~a1", "c3~a1", True),
        ("a1", "b2", False),
        ("a1", "c3~b2", False),
        ("b2~a1", "c3", False),
    ],
    ids=[
        "a flush",
        "a flush behind a flush",
        "a loss",
        "a flush behind a loss that nobody saw",
        "a loss behind a flush",
    ],
)
@pytest.mark.parametrize("mark", [8_000, 8_600, None], ids=["left", "left since", "gone"])
def test_a_new_epoch_is_on_purpose_where_it_names_the_one_before_it(
    before: str, now: str, on_purpose: bool, mark: int | None
) -> None:
    seen, flushed = replace(SEEN, loss=before), NEW._replace(loss=now)

    noticed = judge(seen, replace(WITNESS, epoch=flushed, before=mark), "run1")

    assert noticed is not None
    assert noticed.on_purpose is on_purpose
    assert noticed.whole is not on_purpose


def test_an_old_copy_from_before_a_flush_is_a_loss() -> None:
    seen = replace(SEEN, loss="b2~a1", birth_ms=7_500)

    noticed = judge(seen, replace(WITNESS, before=7_000), "run1")

    assert noticed is not None
    assert noticed.kind is LossKind.WENT_BACK
    assert not noticed.on_purpose


def test_it_says_by_how_long_the_data_went_back() -> None:
    noticed = judge(SEEN, replace(WITNESS, before=7_000), "run2")

    assert noticed is not None
    assert noticed.back == 1.0
    assert noticed.text.startswith("Redis went back by 1.0 s")


def test_where_nobody_may_ask_for_the_server_an_empty_redis_is_called_emptied() -> None:
    noticed = judge(replace(SEEN, life=""), replace(WITNESS, epoch=NEW, before=None), "")

    assert noticed is not None
    assert noticed.kind is LossKind.EMPTIED


def test_every_function_hears_of_a_loss_once_and_one_that_raises_hinders_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[RedisLoss] = []

    @on_redis_loss
    def fail(loss: RedisLoss) -> None:
        raise ValueError(loss.text)

    @on_redis_loss
    def page(loss: RedisLoss) -> None:
        heard.append(loss)

    on_redis_loss(page)
    lost.tell(LOSS)

    assert heard == [LOSS]
    assert "a function for losses of Redis raised" in caplog.text


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(DefinitionError, match="write one below @on_redis_loss"):
        on_redis_loss("page")  # type: ignore[type-var]


def test_a_loss_travels_as_json() -> None:
    loss = replace(LOSS, unreconciled={"Mail": {"queued": 3, "retrying": 1}}, counted_ago=7.0)

    said = loss.as_json()

    assert (said["kind"], said["gone"]) == ("emptied", 4)
