"""The provider before a server that comes, goes and changes its mind: it waits for nothing and loses nothing it knew."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from qik_core import Job, registry
from qik_core.switches import Field
from reconciler import registry as reconcilers
from reconciler.switches import unleash
from reconciler.switches.unleash import Unleash
from tests.unleash.forked import FORK
from tests.unleash.providing import (
    OFF,
    ON,
    Make,
    flags,
    known,
    polled,
    threads,
)
from tests.unleash.stub import TOKEN, Stub, constraint, document, feature, good, rollout
from tests.waiting import eventually


def test_flags_become_rules_and_every_change_is_told_once(stub: Stub, make: Make) -> None:
    told: list[list[str] | None] = []
    provider = make(lambda it: told.append(flags(it)))
    known(provider, "disable_mail")
    (rule,) = (provider.rules() or {})["disable_mail"]
    assert (rule.source, rule.reason) == ("unleash", "the provider is down")
    assert abs(rule.since - time.time()) < 60
    assert provider.health() == ""

    polled(stub, 3)
    stub.way = good(OFF)
    known(provider)
    stub.way = good(ON)
    known(provider, "disable_mail")

    eventually(lambda: told == [["disable_mail"], [], ["disable_mail"]], 10.0)


def test_an_unchanged_answer_travels_once(stub: Stub, make: Make) -> None:
    known(make(), "disable_mail")
    polled(stub, 3)

    first, *others = stub.asked()

    assert "if-none-match" not in first.headers
    assert all("if-none-match" in each.headers for each in others)


def test_the_server_is_told_who_asks_and_with_which_token(stub: Stub, make: Make) -> None:
    known(make(), "disable_mail")

    head = stub.asked()[0].headers

    assert head["authorization"] == TOKEN
    assert head["unleash-appname"] == "shop"
    assert socket.gethostname() in head["unleash-instanceid"]


def test_two_providers_are_two_instances(stub: Stub, make: Make) -> None:
    make()
    make()

    eventually(lambda: len({each.headers["unleash-instanceid"] for each in stub.asked()}) == 2)


# --- U1, U2: down at the start, down later ---


def test_a_server_that_is_down_at_the_start_is_waited_for_by_nobody(stub: Stub, make: Make) -> None:
    stub.stop()
    began = time.monotonic()
    provider = make()
    assert time.monotonic() - began < 1.0

    eventually(lambda: "cannot be reached" in provider.health(), 20.0)
    assert provider.rules() is None
    assert "nothing is known of its switches" in provider.health()

    stub.start()
    known(provider, "disable_mail")
    assert provider.health() == ""


def test_a_server_that_goes_down_leaves_its_last_word_also_over_a_restart(
    stub: Stub, make: Make
) -> None:
    provider = make()
    known(provider, "disable_mail")
    since = (provider.rules() or {})["disable_mail"][0].since
    stub.stop()
    eventually(lambda: "cannot be reached" in provider.health(), 20.0)
    assert "its last word counts" in provider.health()
    assert flags(provider) == ["disable_mail"]
    provider.close()

    another = make()

    assert flags(another) == ["disable_mail"]  # at once, and before anybody was asked
    assert (another.rules() or {})["disable_mail"][0].since == since
    stub.way = good(OFF)
    stub.start()
    known(another)


# --- U6: flags come and go ---


def test_a_flag_that_is_deleted_stops_nothing_any_more(stub: Stub, make: Make) -> None:
    provider = make()
    known(provider, "disable_mail")

    stub.way = good(document())

    known(provider)
    assert provider.health() == ""


def test_a_flag_under_another_name_is_said_once_with_the_one_that_may_be_meant(
    stub: Stub, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    stub.way = good(
        document(
            feature("disable_mails", rollout()),
            feature("disable_of_another_application", rollout()),
            feature("disable_chargge", enabled=False),
        )
    )
    provider = make()
    known(provider, "disable_mails", "disable_of_another_application")
    polled(stub, 3)

    said = "disable_mails is on and stops nothing of this application: is disable_mail meant?"
    assert provider.health() == said
    assert [each.getMessage() for each in caplog.records if each.name == "reconciler"] == [said]


def test_the_names_of_an_application_are_those_that_it_defines() -> None:
    with registry.scope(empty=True), reconcilers.scope():

        class SendMail(Job, queue="slow", unique_for=60):
            def perform(self, number: int) -> None: ...

        names = unleash.known()

    assert names.queues == {"SendMail": "slow"}
    assert names.reconcilers == {}
    assert names.of(Field.QUEUE) == ["default", "slow"]


def test_what_cannot_be_a_rule_is_decided_class_by_class_and_said(stub: Stub, make: Make) -> None:
    custom = {"name": "userWithId", "parameters": {"userIds": "Mail"}}
    stub.way = good(document(feature("disable_mail", custom), feature("disable_charge", custom)))
    provider = make()

    known(provider, "disable_mail")

    assert provider.health() == (
        "disable_charge is decided class by class, as it has strategy userWithId; "
        "disable_mail is decided class by class, as it has strategy userWithId"
    )


def test_what_was_decided_class_by_class_holds_from_the_first_moment_of_the_next_start(
    stub: Stub, make: Make
) -> None:
    parent = feature("outage", rollout())
    stub.way = good(document(feature("disable_mail", dependencies=[{"feature": "outage"}]), parent))
    provider = make()
    known(provider, "disable_mail")
    provider.close()
    stub.stop()

    another = make()

    assert flags(another) == ["disable_mail"]
    eventually(lambda: "cannot be reached" in another.health(), 20.0)
    assert flags(another) == ["disable_mail"]  # by the engine, which was given what was kept


def test_constraints_on_tenant_and_key_reach_the_rules(stub: Stub, make: Make) -> None:
    stub.way = good(
        document(
            feature(
                "disable_charge",
                rollout(50, constraint("tenant", "IN", "acme"), constraint("key", "NOT_IN", "7")),
            )
        )
    )
    provider = make()
    known(provider, "disable_charge")

    (rule,) = (provider.rules() or {})["disable_charge"]

    assert rule.percent == 50.0
    assert [(each.field, each.operator, each.values) for each in rule.where] == [
        ("tenant", "in", ("acme",)),
        ("key", "not_in", ("7",)),
    ]


# --- U7: a fork ---


def test_a_forked_child_sees_flags_flip(stub: Stub) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORK, stub.url, TOKEN, "disable_mail"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        said = {process.stdout.readline().strip(), process.stdout.readline().strip()}
        assert said == {"child", "parent"}
        stub.way = good(OFF)

        assert process.wait(90) == 0


# --- itself ---


def test_what_hears_of_changes_may_fail(
    stub: Stub, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: Unleash) -> None:
        raise RuntimeError("planted")

    provider = make(fails)
    known(provider, "disable_mail")
    stub.way = good(OFF)
    known(provider)

    assert "what should hear of changed switches failed" in caplog.text


def test_closing_ends_its_thread_and_keeps_what_is_known(stub: Stub, make: Make) -> None:
    provider = make()
    known(provider, "disable_mail")

    provider.close()

    eventually(lambda: not threads(), 10.0)
    assert flags(provider) == ["disable_mail"]


def test_the_library_is_loaded_by_no_start_and_by_the_thread_that_polls() -> None:
    code = (
        "import sys, reconciler.switches.unleash\n"
        "print([each for each in ('UnleashClient', 'requests', 'apscheduler') if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_what_no_database_can_keep_is_left_out_alone_and_said(stub: Stub, make: Make) -> None:
    stub.way = good(
        document(feature("disable_charge", rollout()), feature("disable_mail", rollout()))
    )
    provider = make()
    known(provider, "disable_charge", "disable_mail")

    stub.way = good(
        document(
            feature("disable_charge", rollout(), description="half \0 a reason"),
            feature("disable_" + "x" * 200, rollout()),
            feature("disable_\0", rollout()),
            feature("disable_queue_slow", rollout()),
        )
    )

    known(provider, "disable_charge", "disable_queue_slow")
    assert provider.health().count("no name of a switch") == 2
    assert "disable_charge has a text with a NUL" in provider.health()


def test_half_a_character_in_one_flag_holds_up_no_other(stub: Stub, make: Make) -> None:
    half = "\ud83d"  # as servers send what was cut off within an emoji
    stub.way = good(
        document(
            feature("other", rollout(), description=half),
            feature("disable_charge", rollout(), description=f"the \U0001f6d1 or {half}"),
            feature(f"disable_{half}", rollout()),
            feature("disable_mail", {"name": "custom"}, rollout(50)),
        )
    )

    provider = make()

    known(provider, "disable_charge", "disable_mail")
    assert provider.rules()["disable_charge"][0].reason == "the \U0001f6d1 or \ufffd"  # type: ignore[index]
    assert "no name of a switch" in provider.health()
