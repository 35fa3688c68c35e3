from __future__ import annotations

from typing import Any

import pytest
import redis

from qik_core.store.flush import FlushStore, home_of
from qik_core.store.records import Claim
from tests.qik_core.store.rig import Rig, digest, jid
from tests.qik_core.store.test_flush import aside, sort


@pytest.mark.every_server
def test_every_step_works_while_redis_is_full(rig: Rig, raw: Any) -> None:
    rig.push(*range(1, 101))
    rig.push(*range(101, 201), delays=[60] * 100)
    raw.config_set("maxmemory", 1_000_000)
    with pytest.raises(redis.ResponseError, match=r"OOM|maxmemory"):
        raw.set("more", "x")
    flush = FlushStore(rig.store, "alice")

    assert flush.turn() == ""
    flush.note("0123456789ab")
    where = aside(flush)
    sort(flush, where, "xb" * 50)
    scheduled = home_of(b"schedule")
    assert scheduled is not None
    (window,) = flush.windows(scheduled)
    raws = [each.raw for each in window.entries]
    claims = [
        Claim(each, jid(n).decode(), digest(n).decode()) for n, each in enumerate(raws[:50], 101)
    ]
    assert sum(flush.drop(scheduled, claims, None)) == 50
    flush.renew(rig.store.look().loss)
    flush.keep(scheduled, raws, None)
    jids = [each.jid for each in claims]
    assert flush.removed("0123456789ab", jids) == set(jids)
    flush.note("0123456789ab")
    assert flush.removed("0123456789ab", jids) == set()
    flush.give_up()

    assert raw.llen("queue:default") == 50
    assert raw.zcard("schedule") == 50
    assert rig.locks() == 50
