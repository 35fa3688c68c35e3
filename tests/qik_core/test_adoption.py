from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from qik_core import Job, registry
from qik_core.adoption import adopted, foreign
from qik_core.payload import Payload
from qik_core.store.exchange import Fetched


@pytest.fixture(autouse=True)
def _charge() -> Iterator[None]:
    with registry.scope():

        class Charge(Job, unique_for=timedelta(minutes=1)):
            def perform(self, n: int) -> None: ...

        class Plain(Job):
            def perform(self, n: int) -> None: ...

        yield


def job(**fields: Any) -> Fetched:
    whole = {"class": "Charge", "args": [7], "jid": "ruby1", **fields}
    return Fetched(b"1.1", json.dumps(whole).encode(), "low")


def test_only_what_begins_without_our_header_is_foreign() -> None:
    ours = Fetched(b"1.2", b'{"qik":"-","jid":"a","queue":"low","class":"X","args":[]}', "low")
    assert foreign([job(), ours]) == [job()]


def test_a_rubys_push_of_a_unique_job_gets_the_key_that_our_own_push_has() -> None:
    found = adopted(job(), registry.find)
    definition = registry.find("Charge")
    assert found is not None
    assert definition is not None

    payload = Payload.decode(found.raw)
    assert found.raw.startswith(b'{"qik":"')
    assert payload["qik"] == definition.digests([(7,)])[0].decode() + "S60"
    assert (payload.jid, payload.queue, found.field) == ("ruby1", "low", b"1.1")


@pytest.mark.parametrize("jid", [None, 5, "", "x" * 65, "a b"])
def test_one_without_a_jid_that_can_be_gets_one(jid: object) -> None:
    found = adopted(job(jid=jid), registry.find)
    assert found is not None
    assert len(Payload.decode(found.raw).jid) == 24


def test_our_own_job_that_ruby_wrote_anew_keeps_the_lock_that_it_names() -> None:
    mark = "abcdefghijklmnopqrstuvS60"
    found = adopted(job(qik=mark, **{"class": "Elsewhere"}), registry.find)
    assert found is not None
    assert Payload.decode(found.raw)["qik"] == mark


@pytest.mark.parametrize(
    "fields",
    [{"class": "Plain"}, {"class": "Nobody"}, {"args": ["x"]}, {"args": []}, {"args": {}}],
)
def test_what_has_no_lock_or_cannot_run_is_left_as_it_is(fields: dict[str, Any]) -> None:
    assert adopted(job(**fields), registry.find) is None
    assert adopted(Fetched(b"1.1", b"[]", "low"), registry.find) is None
