from __future__ import annotations

import json

import pytest

from qik_core import poison
from qik_core.store.exchange import Fetched
from qik_core.store.recovery import Home


def job(deaths: object = None, field: bytes = b"1.1") -> Fetched:
    fields = {"qik": "-", "jid": "a", "queue": "low", "class": "X", "args": [7]}
    whole = fields if deaths is None else {**fields, "deaths": deaths}
    return Fetched(field, json.dumps(whole, separators=(",", ":")).encode(), "low")


def deaths_of(raw: bytes) -> int:
    count: int = json.loads(raw)["deaths"]
    return count


def test_a_job_that_was_not_running_goes_back_as_it_is() -> None:
    assert poison.judge(job(), {b"1.2"}) == (Home.QUEUE, b"")
    assert poison.judge(job(2), {b"1.2"}) == (Home.QUEUE, b"")


def test_the_first_death_is_forgiven_and_the_second_makes_a_suspect() -> None:
    company = {b"1.1", b"1.2"}

    where, raw = poison.judge(job(), company)
    assert (where, deaths_of(raw)) == (Home.QUEUE, 1)
    where, raw = poison.judge(job(1), company)
    assert (where, deaths_of(raw)) == (Home.SUSPECTS, 2)


def test_beyond_the_second_a_death_counts_only_alone() -> None:
    where, raw = poison.judge(job(2), {b"1.1", b"1.2"})
    assert (where, deaths_of(raw)) == (Home.SUSPECTS, 2)
    where, raw = poison.judge(job(2), {b"1.1"})
    assert (where, deaths_of(raw)) == (Home.QUEUE, 3)


def test_a_condemned_job_is_charged_no_further() -> None:
    where, raw = poison.judge(job(3), {b"1.1"})
    assert (where, deaths_of(raw)) == (Home.QUEUE, 4)


@pytest.mark.parametrize("deaths", ["x", -1, True, 1.5, [], None])
def test_a_count_that_is_none_is_taken_for_zero(deaths: object) -> None:
    _, raw = poison.judge(job(deaths), {b"1.1"})
    assert deaths_of(raw) == 1


def test_bytes_that_are_no_job_are_left_to_who_fetches_them() -> None:
    assert poison.judge(Fetched(b"1.1", b"\xff", "low"), {b"1.1"}) == (Home.QUEUE, b"")
