"""What the command and the page tell of an examination: findings, and what was seen."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from qik_core import registry, rows
from qik_core.checkup import Checkup
from qik_core.doctor import Check, no_jobs
from qik_core.settings import Settings
from qik_core.store.inspection import Facts, Server, Worker

SOUND = Server(kind="valkey", version=(8, 1, 0), policy="noeviction", save="60 1")


@pytest.fixture(autouse=True)
def _of_no_other_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rows, "queues_told", dict)
    with registry.scope(empty=True):
        yield


@pytest.fixture
def billing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application whose reconciler tells jobs of a queue."""
    monkeypatch.setattr(rows, "queues_told", lambda: {"Invoices": "billing"})


def test_it_says_what_it_saw_as_plain_data() -> None:
    facts = Facts(
        server=SOUND,
        round_trip=0.0012,
        workers=[Worker("a:1:x", ours=True, queues=("default",), beat=0.0), Worker("b", ours=False, queues=(), beat=0.0)],
        queues={"default": 3},
    )  # fmt: skip

    told = json.loads(json.dumps(Checkup.of(facts, Settings(), ["Charge"], []).as_json()))

    assert told["server"]["version"] == "8.1.0"
    assert told["server"]["round_trip_ms"] == 1.2
    assert (told["processes"], told["ruby_processes"]) == (["a:1:x"], ["b"])
    assert (told["queues"], told["jobs"]) == ({"default": 3}, ["Charge"])
    assert [each["check"] for each in told["findings"]] == ["ruby"]


def test_what_is_wrong_with_the_application_stands_first() -> None:
    facts = Facts(server=SOUND, paused=["low"])

    found = Checkup.of(facts, Settings(app="shop"), [], [no_jobs("shop")]).findings

    assert [each.check for each in found] == [Check.NO_JOBS, Check.PAUSED]


@pytest.mark.usefixtures("billing")
def test_a_queue_of_the_application_that_nobody_serves_is_found_where_one_is_named() -> None:
    facts = Facts(server=SOUND)

    named = Checkup.of(facts, Settings(app="shop"), ["Charge"], []).findings
    unnamed = Checkup.of(facts, Settings(), ["Charge"], []).findings
    served = Checkup.of(facts, Settings(app="shop", queues=(("billing", 1),)), ["Charge"], [])

    assert [each.check for each in named] == [Check.UNSERVED]
    assert [*unnamed, *served.findings] == []
