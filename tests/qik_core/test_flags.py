from __future__ import annotations

from collections.abc import Iterator

import pytest

from qik_core import DefinitionError, Job, flags, job, registry
from qik_core.switches import flag_of_reconciler


@pytest.fixture(autouse=True)
def _own_names() -> Iterator[None]:
    with registry.scope(empty=True):
        yield


def define(name: str, **options: str) -> None:
    """Define a job of this name."""

    class Made(Job, name=name, **options):
        def perform(self) -> None: ...


def test_two_classes_of_one_flag_clash_with_the_flag_and_the_remedy() -> None:
    define("Billing::Charge")

    with pytest.raises(
        DefinitionError,
        match=r"'BillingCharge'.*'Billing::Charge'.*disable_billing_charge.*another name",
    ):
        define("BillingCharge")
    assert registry.find("BillingCharge") is None


def test_a_function_and_a_class_of_one_flag_clash() -> None:
    define("SendMail")

    with pytest.raises(DefinitionError, match="disable_send_mail"):

        @job
        def send_mail() -> None: ...


@pytest.mark.parametrize("first", ["class", "queue"])
def test_a_class_whose_flag_is_that_of_a_queue_clashes_whoever_comes_first(first: str) -> None:
    made = [("QueueMails", {}), ("Charge", {"queue": "mails"})]
    (name, options), (other, others) = made if first == "class" else made[::-1]
    define(name, **options)

    with pytest.raises(DefinitionError, match="disable_queue_mails"):
        define(other, **others)


def test_two_queues_of_one_flag_clash() -> None:
    define("Charge", queue="a:b")

    with pytest.raises(DefinitionError, match="the queue 'a_b' and the queue 'a:b'"):
        define("Mail", queue="a_b")


def test_a_class_whose_flag_is_that_of_a_reconciler_clashes() -> None:
    flags.claim(flag_of_reconciler("OpenInvoices"), "the reconciler 'OpenInvoices'")

    with pytest.raises(DefinitionError, match="the reconciler 'OpenInvoices'"):
        define("ReconcilerOpenInvoices")


def test_the_same_class_may_be_defined_again_also_on_another_queue() -> None:
    for queue in ("low", "high", "low"):
        define("Charge", queue=queue)
    define("Mail", queue="low")


def test_what_was_claimed_in_a_scope_is_free_behind_it() -> None:
    with registry.scope():
        define("SendMail")

    define("send_mail")
