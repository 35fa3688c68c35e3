"""A provider before the stub: what it is given, and what is asked of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from reconciler.switches.features import Names
from reconciler.switches.unleash import Means, Unleash
from tests.unleash.stub import Stub, document, feature, rollout
from tests.waiting import eventually

NAMES = Names({"Charge": "billing", "Mail": "slow"}, {})
QUICK = Means(lambda: NAMES, dice=lambda: 0.0, patience=1.0, longest=0.2)
REFRESH = 0.1
ON = document(feature("disable_mail", rollout(), description="the provider is down"))
OFF = document(feature("disable_mail", rollout(), enabled=False))

Make = Callable[..., Unleash]


def threads() -> list[threading.Thread]:
    """The threads of providers in this process."""
    return [each for each in threading.enumerate() if each.name == "reconciler-unleash"]


def flags(provider: Unleash) -> list[str] | None:
    """The flags that stop something; None while nothing is known."""
    rules = provider.rules()
    return None if rules is None else sorted(rules)


def known(provider: Unleash, *wanted: str) -> None:
    """Wait until these flags are on, and no others."""
    eventually(lambda: flags(provider) == list(wanted), 30.0, f"{wanted} are on")


def polled(stub: Stub, times: int = 2) -> None:
    """Wait until it has been asked so often again."""
    before = len(stub.asked())
    eventually(lambda: len(stub.asked()) >= before + times, 60.0, f"{times} more polls")


def file_of(folder: Path) -> Path:
    """Return the file where what is known is kept, as soon as it is there."""
    return eventually(lambda: next((folder / "kept").glob("unleash-*.json"), None), 20.0)  # type: ignore[return-value]
