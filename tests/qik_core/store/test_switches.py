from __future__ import annotations

import time

import pytest
import redis

from qik_core.passes import Passes
from qik_core.store import switches
from qik_core.switches import Rule, Snapshot
from tests.qik_core.store.rig import Rig

ON = {"disable_charge": (Rule(source="sql", reason="why"),)}


@pytest.mark.parametrize("spoiled", ["garbage", "-5", "1_0", "9" * 400])
def test_counts_that_are_no_number_hide_no_others_and_begin_anew(
    rig: Rig, raw: redis.Redis, spoiled: str
) -> None:
    raw.hset("qik:switched", mapping={"disable_charge": 2, "disable_mail": spoiled})

    assert switches.stopped(rig.store.links) == {"disable_charge": 2}
    assert switches.take_stopped(rig.store.links, "disable_mail") == 0
    rig.store.switches(0, {"disable_mail": 3})
    assert switches.stopped(rig.store.links) == {"disable_charge": 2, "disable_mail": 3}


def test_a_process_whose_beat_somebody_spoiled_hides_no_others(rig: Rig, raw: redis.Redis) -> None:
    for name, version in (("host:1:aa", 5), ("host:2:bb", "garbage")):
        raw.hset(name, mapping={"beat": time.time(), "switches": version})
    raw.set("host:3:cc", "something else")
    raw.zadd("qik:alive", dict.fromkeys(("host:1:aa", "host:2:bb", "host:3:cc"), time.time()))

    assert switches.seen(rig.store.links) == {"host:1:aa": 5}


@pytest.mark.every_server
def test_a_version_that_no_snapshot_has_is_replaced(rig: Rig, raw: redis.Redis) -> None:
    raw.set("qik:switches", '{"version":%s,"known":true,"rules":{}}' % ("9" * 17))

    assert Passes(rig.store).publish(Snapshot(6, ON)) == 6
    assert Snapshot.parse(rig.store.switches(0, {})).rules == ON
