from __future__ import annotations

import re
from typing import Any

import pytest

from qik_core import ArgumentError, Job, Payload, job
from qik_core.middleware import Next
from qik_core.settings import configure
from qik_core.testing import Fake, assert_enqueued_count, assert_idempotent
from tests.qik_core.testing.jobs_of_apps import Failing, Mail, done


class Account:
    """Rows of a test."""

    def __init__(self) -> None:
        self.paid: dict[int, int] = {}
        self.mails: list[str] = []


def test_a_job_that_looks_first_is_idempotent() -> None:
    account = Account()

    @job
    def pay(invoice: int, amount: int = 5) -> None:
        account.paid.setdefault(invoice, amount)

    assert_idempotent(pay, 7, observe=lambda: account.paid)
    assert_idempotent(pay, 8, amount=6, observe=lambda: account.paid)
    assert account.paid == {7: 5, 8: 6}


def test_a_job_that_does_it_twice_is_shown_with_the_difference() -> None:
    account = Account()

    @job
    def letter(to: str) -> None:
        account.mails.append(to)

    with pytest.raises(AssertionError) as caught:
        assert_idempotent(letter, "a@example.org", observe=lambda: account.mails)

    said = str(caught.value)
    assert said.startswith("letter('a@example.org') on default is not idempotent")
    assert "-['a@example.org']\n+['a@example.org', 'a@example.org']" in said
    assert "look for the effect first" in said


def test_values_that_print_alike_are_shown_all_the_same() -> None:
    seen: list[object] = []

    class Silent:
        def __repr__(self) -> str:
            return "<silent>"

    @job
    def jot() -> None:
        seen.append(Silent())

    with pytest.raises(AssertionError, match=re.escape("<silent>\nand then\n<silent>")):
        assert_idempotent(jot, observe=lambda: seen[-1])


def test_both_runs_have_the_same_jid_and_pass_the_server_middleware() -> None:
    jids: list[str] = []

    def note(each: Payload, call_next: Next[None]) -> None:
        jids.append(each.jid)
        call_next(each)

    configure(server_middleware=[note])
    assert_idempotent(Mail, "a@example.org", observe=lambda: set(done))

    assert len(jids) == 2
    assert len(set(jids)) == 1


def test_a_second_run_that_raises_says_which_one_it_was() -> None:
    @job
    def only_once(row: int) -> None:
        if row in done:
            raise KeyError(row)
        done.append(row)

    with pytest.raises(KeyError) as caught:
        assert_idempotent(only_once, 1, observe=lambda: done)
    assert caught.value.__notes__[-1] == "in the second of two runs of assert_idempotent"

    with pytest.raises(KeyError) as caught:
        assert_idempotent(Failing, 1, observe=lambda: done)
    assert caught.value.__notes__[-1] == "in the first of two runs of assert_idempotent"


def test_jobs_that_it_pushes_stay_in_memory_or_in_the_mode_that_is_on(jobs: Fake) -> None:
    class Order(Job):
        def perform(self) -> None:
            Mail.perform_async("a@example.org")

    def observe() -> Any:
        return len(jobs)

    with pytest.raises(AssertionError, match=r"-1\n\+2"):
        assert_idempotent(Order, observe=observe)
    assert_enqueued_count(2, Mail)


def test_without_a_mode_nothing_reaches_redis() -> None:
    class Order(Job):
        def perform(self) -> None:
            Mail.perform_async("a@example.org")

    configure(redis="unix:///nowhere.sock")

    assert_idempotent(Order, observe=lambda: None)


def test_async_jobs_are_performed_twice_as_well() -> None:
    @job
    async def jot(row: int) -> None:
        done.append(row)

    with pytest.raises(AssertionError, match="not idempotent"):
        assert_idempotent(jot, 1, observe=lambda: done)
    assert done == [1, 1]


def test_arguments_are_checked_as_at_a_push() -> None:
    with pytest.raises(ArgumentError):
        assert_idempotent(Mail, observe=lambda: None)
