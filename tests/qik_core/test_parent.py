from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qik_core import parent
from qik_core.parent import Parent, Spec
from qik_core.shared import Shared, clock


def test_run_by_path_it_loads_nothing_but_its_siblings_and_the_standard_library() -> None:
    code = f"""
import runpy, sys
sys.argv = [{parent.__file__!r}]
try:
    runpy.run_path({parent.__file__!r}, run_name="__main__")
except KeyError as missing:
    print(missing)
print(sorted(name for name in sys.modules if name.startswith("qik")))
print([name for name in ("redis", "click", "msgspec", "dataclasses", "pathlib") if name in sys.modules])
"""
    out = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    ).stdout.splitlines()
    assert out == [
        f"{parent.SPEC_VARIABLE!r}",
        "['qik_core', 'qik_core.notice', 'qik_core.seat', 'qik_core.shared']",
        "[]",
    ]


def test_orphans_that_a_container_gives_us_are_reaped_and_children_are_left_to_their_owner() -> (
    None
):
    code = """
import os, subprocess, sys, time
from qik_core.parent import _reap_strangers
orphan = os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", ""], os.environ)
child = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(5)"])
deadline = time.monotonic() + 20
while os.path.exists(f"/proc/{orphan}") and time.monotonic() < deadline:
    _reap_strangers({child.pid})
    child.poll()
print(os.path.exists(f"/proc/{orphan}"), child.wait(20))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "False 5\n"


@pytest.mark.parametrize("lacks", ["a page", "a line"])
def test_a_parent_that_has_no_descriptor_left_for_a_child_tries_again(
    lacks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Onlooker:
        def join(self, seat: int) -> int:
            raise OSError(errno.EMFILE, "of the test")

        def leave(self, seat: int, *, clean: bool) -> None: ...

        def saw(self, now: float, states: object) -> None: ...

    def create(slots: int) -> Shared:
        raise OSError(errno.EMFILE, "of the test")

    supervisor = Parent(Spec(1, 1, ["true"], ["true"], 1.0, 30.0, 1.0, {}), {})
    supervisor.onlooker = Onlooker()
    if lacks == "a page":
        monkeypatch.setattr(Shared, "create", create)
    before = len(list(Path("/proc/self/fd").iterdir()))

    supervisor.turn(now := clock())
    supervisor.turn(now + 2)  # at the second failure it begins to wait

    (seat,) = supervisor.seats
    assert (seat.child, seat.due) == (None, now + 3)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    os.close(supervisor._life)
    os.close(supervisor._hold)
