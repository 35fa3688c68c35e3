"""examples/incident, played: the commands of a person on call, and every invoice charged exactly once at the end."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
FACTS = [
    r"disable_charge_invoice \(class ChargeInvoice\) is disabled",
    r"ChargeInvoice is told by OpenInvoices: what is dropped is told again when it is enabled",
    r"seen by 1 of 1 worker processes",
    r"\d+ jobs: \d+ re-derivable, 0 stale, 0 would be lost",
    r"SendNewsletter: 5 would be lost: no reconciler tells it",
    r"flushed \d+ jobs in .* 0 that nothing else brings back",
    r"OpenInvoices: switched_off .* the bank does not answer",
    r"disable_charge_invoice \(class ChargeInvoice\) is enabled",
    r"OpenInvoices: completed",
    r"switch +disable_charge_invoice +disabled: the bank does not answer",
    r"flush +class:ChargeInvoice +flushed: the bank does not answer",
    r"rebuild +OpenInvoices +completed",
    r"200 of 200 invoices are charged, 0 not exactly once; 5 of 5 newsletters wait still",
]
"""What is said, in this order."""


@pytest.mark.slow
def test_the_incident_ends_with_every_invoice_charged_once() -> None:
    done = subprocess.run(
        [sys.executable, "play.py"],
        cwd=ROOT / "examples" / "incident",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    at = 0
    for fact in FACTS:
        found = re.compile(fact).search(done.stdout, at)
        assert found, (
            f"{fact!r} is not said after line {done.stdout.count(chr(10), 0, at)} of\n{done.stdout}"
        )
        at = found.end()


STUBBORN = """
import pathlib, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("ready").touch()
while True:
    signal.pause()
"""


@pytest.fixture
def stage(tmp_path: Path) -> Any:
    """Where the play has a process that does not end."""
    play: dict[str, Any] = runpy.run_path(str(ROOT / "examples" / "incident" / "play.py"))
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    return play["Stage"](tmp_path, "redis://nowhere", 0.5)


@pytest.mark.timeout(30)
def test_a_process_of_the_play_that_does_not_end_is_named_and_killed(
    stage: Any, tmp_path: Path
) -> None:
    with (
        pytest.raises(SystemExit, match="waited in vain until `stubborn work` ended"),
        stage.running("stubborn", "work"),
    ):
        eventually((tmp_path / "ready").exists)


@pytest.mark.timeout(30)
def test_what_went_wrong_first_is_told_though_a_process_does_not_end(
    stage: Any, tmp_path: Path
) -> None:
    def fail() -> None:
        eventually((tmp_path / "ready").exists)
        raise SystemExit("that ended with exit code 7")

    with pytest.raises(SystemExit, match="exit code 7"), stage.running("stubborn", "work"):
        fail()
