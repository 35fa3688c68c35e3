"""The provider before a real Unleash server, from its admin API to rules."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qik_core.switches import Context, Snapshot
from reconciler.switches.features import Names
from reconciler.switches.polling import Door, Link
from reconciler.switches.unleash import MEANS, Unleash
from tests.unleash.forked import FORK
from tests.unleash.server import BACKEND, UnleashServer
from tests.unleash.stub import constraint
from tests.waiting import eventually

REFRESH = 0.3
NAMES = Names({"Charge": "billing", "Mail": "slow"}, {})
MEANS_OF_TESTS = MEANS._replace(names=lambda: NAMES, longest=REFRESH)

Make = Callable[..., Unleash]


@pytest.fixture
def make(unleash: UnleashServer, tmp_path: Path) -> Iterator[Make]:
    made: list[Unleash] = []

    def start(token: str = BACKEND) -> Unleash:
        made.append(Unleash(unleash.url, token, "shop", REFRESH, tmp_path / "kept", MEANS_OF_TESTS))
        made[-1].start(lambda: None)
        return made[-1]

    yield start
    for each in made:
        each.close()


def snapshot(provider: Unleash) -> Snapshot:
    return Snapshot(1, provider.rules() or {})


def stopped(snap: Snapshot, name: str, key: str = "1", tenant: str | None = None) -> bool:
    return snap.stop(name, NAMES.queues[name], key, Context(tenant, key), now=0.0) is not None


def share(snap: Snapshot, name: str) -> set[str]:
    return {f"key-{n}" for n in range(2_000) if stopped(snap, name, f"key-{n}")}


def percents(provider: Unleash, flag: str) -> list[float]:
    return [rule.percent for rule in (provider.rules() or {}).get(flag, ())]


def test_a_flag_is_made_turned_ramped_and_outlives_its_server(
    unleash: UnleashServer, make: Make
) -> None:
    provider = make()
    unleash.create("disable_mail", "the provider is down")
    unleash.turn("disable_mail", on=True)
    eventually(lambda: percents(provider, "disable_mail") == [100.0], 60.0, "the flag is on")
    assert (provider.rules() or {})["disable_mail"][0].reason == "the provider is down"

    unleash.roll_out("disable_mail", 90)
    eventually(lambda: percents(provider, "disable_mail") == [90.0], 60.0, "it is at 90 %")
    first = share(snapshot(provider), "Mail")
    assert abs(len(first) / 20 - 90) < 2
    unleash.roll_out("disable_mail", 100, constraint("tenant", "IN", "acme"))
    eventually(lambda: percents(provider, "disable_mail") == [100.0], 60.0, "a tenant is stopped")
    assert stopped(snapshot(provider), "Mail", tenant="acme")
    assert not stopped(snapshot(provider), "Mail", tenant="zoo")

    unleash.kill()
    eventually(lambda: "cannot be reached" in provider.health(), 60.0)
    assert stopped(snapshot(provider), "Mail", tenant="acme")
    assert stopped(snapshot(make()), "Mail", tenant="acme")  # another start, without a server


@pytest.mark.slow
def test_a_server_that_comes_back_is_taken_up_and_off_is_off(
    unleash: UnleashServer, make: Make
) -> None:
    unleash.constrain("disable_charge")
    provider = make()
    eventually(lambda: stopped(snapshot(provider), "Charge"), 60.0, "it is on")
    unleash.kill()
    eventually(lambda: "cannot be reached" in provider.health(), 60.0)
    unleash.start()
    eventually(lambda: provider.health() == "", 60.0)
    assert stopped(snapshot(provider), "Charge")

    unleash.turn("disable_charge", on=False)

    eventually(lambda: not stopped(snapshot(provider), "Charge"), 60.0, "it is off")


@pytest.mark.slow
def test_ramping_back_lets_the_same_keys_run_at_each_step(
    unleash: UnleashServer, make: Make
) -> None:
    unleash.constrain("disable_queue_slow")
    provider = make()
    kept = {f"key-{n}" for n in range(2_000)}
    for percent in (90, 50, 10, 0):
        unleash.roll_out("disable_queue_slow", percent)
        wanted = [float(percent)] if percent else []
        eventually(lambda: percents(provider, "disable_queue_slow") == wanted, 60.0)  # noqa: B023
        now = share(
            Snapshot(
                1, {"disable_queue_slow": (provider.rules() or {}).get("disable_queue_slow", ())}
            ),
            "Mail",
        )
        assert abs(len(now) / 20 - percent) < 2
        assert now < kept
        kept = now


@pytest.mark.slow
def test_rules_of_a_real_server_say_what_its_own_engine_says(
    unleash: UnleashServer, make: Make
) -> None:
    big = unleash.segment("big tenants", constraint("tenant", "IN", "acme", "zoo"))
    flags = {f"disable_queue_q{n}": f"q{n}" for n in range(4)}
    unleash.constrain("disable_queue_q0", constraint("tenant", "NOT_IN", "acme"))
    unleash.constrain("disable_queue_q1", constraint("class", "STR_ENDS_WITH", "arge"))
    unleash.constrain("disable_queue_q2", segments=[big])
    unleash.constrain(
        "disable_queue_q3",
        constraint("key", "IN", "1", "2", inverted=True),
        constraint("class", "STR_CONTAINS", "MAI", caseInsensitive=True),
    )
    provider = make()
    eventually(lambda: set(flags) <= set(provider.rules() or {}), 60.0)
    door = Door(unleash.url, BACKEND, "shop", "beside", 5.0)
    link = Link(door, None, lambda text: text)
    assert link.poll() == ""

    dice, found = random.Random(1), {True: 0, False: 0}
    for _ in range(400):
        flag, queue = dice.choice(list(flags.items()))
        context = {
            "class": dice.choice(list(NAMES.queues)),
            "queue": queue,
            "tenant": dice.choice(("acme", "zoo", "tiny")),
            "key": dice.choice("123"),
        }
        alone = Snapshot(1, {flag: (provider.rules() or {})[flag]})
        about = Context(context["tenant"], context["key"])
        said = alone.stop(context["class"], queue, "x", about, now=0.0)
        assert (said is not None) is link.ask(flag, context), (flag, context)
        found[said is not None] += 1
    link.close()
    assert min(found.values()) > 50


@pytest.mark.slow
def test_a_flag_that_depends_on_another_is_decided_by_class(
    unleash: UnleashServer, make: Make
) -> None:
    unleash.create("outage")
    unleash.constrain("disable_queue_billing")
    unleash.admin(
        "POST",
        "/api/admin/projects/default/features/disable_queue_billing/dependencies",
        {"feature": "outage"},
    )
    provider = make()
    eventually(lambda: "a dependency on another flag" in provider.health(), 60.0)
    assert "disable_queue_billing" not in (provider.rules() or {})

    unleash.turn("outage", on=True)

    eventually(lambda: percents(provider, "disable_queue_billing") == [100.0], 60.0)


@pytest.mark.slow
def test_a_token_that_is_not_taken_is_named(make: Make) -> None:
    provider = make("default:development.another")

    eventually(lambda: "does not take the token" in provider.health(), 60.0)
    assert provider.rules() is None


@pytest.mark.slow
def test_unleash_shows_which_application_uses_a_flag(unleash: UnleashServer) -> None:
    unleash.constrain("disable_seen")
    means = MEANS._replace(names=lambda: Names({"Seen": "seen"}, {}))

    def applications() -> list[str]:
        provider = Unleash(unleash.url, BACKEND, "shop", REFRESH, None, means)
        provider.start(_nobody)
        eventually(lambda: bool(provider.rules()), 60.0)
        provider.close()  # it sends what it has counted; the server forgets that of flags it learned of just now
        seen = unleash.admin("GET", "/api/admin/client-metrics/features/disable_seen")
        return [str(each) for each in seen["seenApplications"]]

    eventually(lambda: applications() == ["shop"], 120.0, every=2.0)


def _nobody() -> None:
    """Hear of nothing."""


@pytest.mark.slow
def test_a_forked_child_sees_flags_of_a_real_server_flip(unleash: UnleashServer) -> None:
    unleash.constrain("disable_forked")
    wanted = [sys.executable, "-W", "ignore", "-c", FORK, unleash.url, BACKEND, "disable_forked"]
    with subprocess.Popen(wanted, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = {process.stdout.readline().strip(), process.stdout.readline().strip()}
        assert said == {"child", "parent"}
        unleash.turn("disable_forked", on=False)

        assert process.wait(120) == 0
