"""The provider before a real Unleash server, from its admin API to rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qik_core.switches import Context, Snapshot
from reconciler.switches.features import Names
from reconciler.switches.unleash import MEANS, Unleash
from tests.unleash.server import BACKEND, UnleashServer
from tests.unleash.stub import constraint
from tests.waiting import eventually

REFRESH = 0.3
MEANS_OF_TESTS = MEANS._replace(
    names=lambda: Names({"Charge": "billing", "Mail": "slow"}, {}), longest=REFRESH
)


@pytest.fixture
def provider(unleash: UnleashServer, tmp_path: Path) -> Iterator[Unleash]:
    made = _provider(unleash, tmp_path)
    made.start(lambda: None)
    eventually(lambda: made.rules() is not None, 30.0, "the server has answered")
    yield made
    made.close()


def _provider(unleash: UnleashServer, folder: Path) -> Unleash:
    return Unleash(unleash.url, BACKEND, "shop", REFRESH, folder / "kept", MEANS_OF_TESTS)


def stopped(provider: Unleash, name: str, key: str = "1", tenant: str | None = None) -> bool:
    found = Snapshot(1, provider.rules() or {}).stop(
        name, "slow", key, Context(tenant, key), now=0.0
    )
    return found is not None


def share(provider: Unleash, name: str) -> set[str]:
    return {f"key-{n}" for n in range(5_000) if stopped(provider, name, f"key-{n}")}


def test_a_flag_is_made_turned_ramped_and_outlives_its_server(
    unleash: UnleashServer, provider: Unleash
) -> None:
    unleash.create("disable_mail", "the provider is down")
    unleash.turn("disable_mail", on=True)
    eventually(lambda: stopped(provider, "Mail"), 30.0, "the flag is on")
    (rule,) = (provider.rules() or {})["disable_mail"]
    assert (rule.percent, rule.reason) == (100.0, "the provider is down")

    unleash.roll_out("disable_mail", 90)
    eventually(lambda: not stopped(provider, "Mail", ""), 30.0, "90 % of the keys are stopped")
    first = share(provider, "Mail")
    assert abs(len(first) - 4_500) < 100
    assert share(provider, "Mail") == first

    unleash.roll_out("disable_mail", 100, constraint("tenant", "IN", "acme"))
    eventually(lambda: not share(provider, "Mail"), 30.0, "only tenants are stopped")
    assert stopped(provider, "Mail", tenant="acme")
    assert not stopped(provider, "Mail", tenant="zoo")

    unleash.kill()
    eventually(lambda: "cannot be reached" in provider.health(), 30.0)
    assert stopped(provider, "Mail", tenant="acme")
    unleash.start()
    unleash.turn("disable_mail", on=False)
    eventually(lambda: not stopped(provider, "Mail", tenant="acme"), 30.0, "the flag is off")
    eventually(lambda: provider.health() == "", 30.0)
