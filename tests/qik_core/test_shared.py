from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from qik_core.shared import FIELD_BYTES, IDENTITY_BYTES, Shared, State, clock


def child(shared: Shared, body: str, *, wait: bool = True) -> subprocess.Popen[str]:
    """Run `body` in a real process that has attached the page as `shared`."""
    prelude = f"import os, signal\nfrom qik_core.shared import Shared, State, clock\nshared = Shared.attach({shared.fd})\n"
    process = subprocess.Popen(
        [sys.executable, "-c", prelude + textwrap.dedent(body)],
        pass_fds=[shared.fd],
        stdout=subprocess.PIPE,
        text=True,
    )
    if wait:
        process.communicate(timeout=20)
    return process


def test_a_new_page_is_booting_and_says_nothing() -> None:
    shared = Shared.create(4)
    assert (shared.state, shared.identity, shared.last_tick(), shared.started()) == (
        State.BOOTING,
        "",
        0.0,
        [],
    )
    shared.close()


def test_the_parent_reads_what_the_child_wrote() -> None:
    shared = Shared.create(3)
    before = clock()
    child(
        shared,
        """
        shared.identity = "host:12:abc"
        shared.state = State.READY
        shared.start(0, b"7.0")
        shared.start(2, b"18446744073709551615.999")
        shared.tick(clock())
        """,
    )
    assert shared.identity == "host:12:abc"
    assert shared.state is State.READY
    assert shared.started() == ["7.0", "18446744073709551615.999"]
    assert before <= shared.last_tick() <= clock()
    shared.close()


def test_what_a_child_started_outlives_its_sigkill() -> None:
    shared = Shared.create(2)
    process = child(shared, "shared.start(1, b'3.4')\nos.kill(os.getpid(), signal.SIGKILL)")
    assert process.returncode == -signal.SIGKILL
    assert shared.started() == ["3.4"]
    shared.close()


def test_a_cleared_slot_is_not_started() -> None:
    shared = Shared.create(2)
    shared.start(0, b"123456789.12")
    shared.start(0, b"1.2")
    assert shared.started() == ["1.2"]
    shared.clear(0)
    assert shared.started() == []
    shared.close()


def test_a_marker_starts_and_clears_its_own_slot_only() -> None:
    shared = Shared.create(2)
    shared.start(0, b"1.0")
    mark = shared.marker(1)
    mark(b"1.1")
    assert shared.started() == ["1.0", "1.1"]
    mark(b"")
    assert shared.started() == ["1.0"]
    shared.close()


def test_a_new_identity_takes_the_marks_of_the_old_one_away() -> None:
    shared = Shared.create(2)
    shared.identity = "first"
    shared.start(0, b"1.0")
    shared.identity = "second"
    assert (shared.identity, shared.started()) == ("second", [])
    shared.identity = "x" * IDENTITY_BYTES
    assert shared.identity == "x" * IDENTITY_BYTES
    shared.close()


@pytest.mark.parametrize("identity", ["", "x" * (IDENTITY_BYTES + 1), "ä" * IDENTITY_BYTES])
def test_an_identity_that_does_not_fit_is_refused_and_changes_nothing(identity: str) -> None:
    shared = Shared.create(1)
    shared.identity = "before"
    with pytest.raises(ValueError, match="1 to 200 bytes"):
        shared.identity = identity
    assert shared.identity == "before"
    shared.close()


def test_the_longest_field_fits_and_rubbish_is_not_taken_for_a_field() -> None:
    shared = Shared.create(3)
    longest = f"{2**64 - 1}.{10**10}".encode()
    assert len(longest) <= FIELD_BYTES
    shared.start(0, longest)
    shared.start(1, b"\xff\xfe,--clean")
    shared.start(2, b"12.")
    assert shared.started() == [longest.decode()]
    shared.close()


def test_a_descriptor_of_something_else_is_refused_with_the_remedy() -> None:
    read, write = os.pipe()
    with pytest.raises(OSError, match=r"."):
        Shared.attach(read)
    os.close(read)
    os.close(write)
    with Path(__file__).open("rb") as file, pytest.raises(ValueError, match="qik work"):
        Shared.attach(file.fileno())


def test_the_module_imports_nothing_of_ours() -> None:
    path = sys.modules[Shared.__module__].__file__
    code = f"import runpy, sys; runpy.run_path({path!r}); print([m for m in sys.modules if m.startswith('qik')])"
    out = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert out.stdout.strip() == "[]"
