"""The real parent, run by path as the command line runs it, over small stand-in children: real processes and signals."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.integration.standins import Worker
from tests.waiting import alive, eventually, never

Start = Callable[..., Worker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    workers = []

    def make(mode: str = "works", **changes: Any) -> Worker:
        workers.append(Worker(tmp_path, mode, **changes))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()


def test_a_parent_weighs_less_than_14_mb_and_starts_every_child(start: Start) -> None:
    worker = start(processes=3)
    eventually(lambda: len(worker.events("ready")) == 3)
    eventually(lambda: "is ready" in worker.said())
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0])
    assert resident < 14 * 1024


def test_sigterm_reaches_each_child_once_and_the_parent_leaves_with_0(start: Start) -> None:
    worker = start(processes=2)
    eventually(lambda: len(worker.events("ready")) == 2)
    worker.send(signal.SIGTERM)
    assert worker.process.wait(7.5) == 0
    assert len(worker.events("SIGTERM")) == 2
    assert len(worker.events("left")) == 2


def test_each_end_of_a_child_is_followed_by_a_helper_that_knows_whom_and_how(start: Start) -> None:
    worker = start()
    pid = eventually(lambda: worker.pids("ready"))[0]
    worker.send(signal.SIGTERM)
    worker.process.wait(7.5)
    assert [call[1:] for call in worker.helped()] == [[f"host:{pid}:0", "--started", "", "--clean"]]


def test_a_child_that_sigkill_ended_is_replaced_at_once_and_its_started_jobs_are_named(
    start: Start,
) -> None:
    worker = start(processes=2)
    eventually(lambda: len(worker.events("ready")) == 2)
    victim = worker.pids("ready")[0]
    index = worker.events("ready")[0][1]
    at = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(worker.events("ready")) == 3)
    eventually(worker.helped)
    assert float(worker.events("ready")[2][0]) - at < 2.0
    assert worker.helped()[0][0] - at < 2.0
    assert worker.helped()[0][1:] == [f"host:{victim}:{index}", "--started", "1.0,1.7"]


def test_an_exit_with_0_that_nobody_asked_for_is_a_death(start: Start) -> None:
    worker = start("exits")
    call = eventually(worker.helped)[0]
    assert call[2:] == ["--started", "1.0,1.7"]


def test_children_that_die_young_are_replaced_ever_more_slowly(start: Start) -> None:
    worker = start("dies")
    eventually(lambda: len(worker.events("born")) >= 4, 15)
    births = [float(event[0]) for event in worker.events("born")]
    pauses = [later - earlier for earlier, later in pairwise(births)]
    assert pauses[0] < 1.0  # at once
    assert pauses[1] >= 0.9
    assert pauses[2] >= 1.9


def test_many_deaths_at_once_cause_at_most_one_spawn_a_second(start: Start) -> None:
    worker = start(processes=4)
    eventually(lambda: len(worker.events("ready")) == 4)
    for pid in worker.pids("ready"):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(worker.events("born")) == 7, 15)
    births = [float(event[0]) for event in worker.events("born")][4:]
    assert (
        births[2] - births[0] > 1.5
    )  # 2 s, less what a busy machine adds to the first one's start


def test_a_child_whose_job_holds_the_gil_is_ended_and_its_jobs_are_charged(start: Start) -> None:
    worker = start("works", modes={"1": "gil"}, processes=2)
    at = float(eventually(lambda: [e for e in worker.events("ready") if e[1] == "1"])[0][0])
    call = eventually(worker.helped, 10)[0]
    assert call[2:] == ["--started", "1.0,1.7"]
    assert 2.0 <= call[0] - at <= 3.0 + 2.0
    assert "gave no sign for 2 s" in worker.said()


def test_a_frozen_child_is_ended_too(start: Start) -> None:
    worker = start()
    pid = eventually(lambda: worker.pids("ready"))[0]
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: len(worker.events("ready")) == 2)
    assert not alive(pid)


def test_a_frozen_parent_does_not_condemn_children_when_it_goes_on(start: Start) -> None:
    worker = start(processes=2)
    eventually(lambda: len(worker.events("ready")) == 2)
    pids = worker.pids("ready")
    worker.send(signal.SIGSTOP)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    never(worker.helped, 2.6)  # longer than the silence that is allowed
    worker.send(signal.SIGCONT)
    never(lambda: "SIGKILL" in worker.said(), 0.5)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    never(lambda: "SIGKILL" in worker.said(), 2.5)


def test_what_a_silent_childs_jobs_have_spawned_ends_with_it(start: Start) -> None:
    worker = start("gil")
    eventually(lambda: worker.events("ready"))
    job = worker.folder / "job"
    spawned = int(eventually(lambda: job.exists() and job.read_text()))
    eventually(worker.helped)
    assert not alive(spawned)


def test_a_child_beyond_its_time_to_stop_is_ended_and_nobody_is_charged(start: Start) -> None:
    worker = start("stubborn", shutdown=0.2)
    eventually(lambda: worker.events("ready"))
    at = worker.send(signal.SIGTERM)
    assert worker.process.wait(10) == 0
    assert time.monotonic() - at < 0.2 + 5
    assert worker.helped()[0][2:] == ["--started", "1.0,1.7", "--clean"]


def test_a_second_sigterm_stops_fast(start: Start) -> None:
    worker = start("stubborn", shutdown=25.0)
    eventually(lambda: worker.events("ready"))
    worker.send(signal.SIGTERM)
    eventually(lambda: worker.events("SIGTERM"))
    at = worker.send(signal.SIGINT)
    assert worker.process.wait(10) == 0
    assert time.monotonic() - at < 5.0
    assert len(worker.events("SIGTERM")) == 2


def test_sigtstp_quiets_each_child_once_and_dead_ones_stay_away(start: Start) -> None:
    worker = start(processes=2)
    eventually(lambda: len(worker.events("ready")) == 2)
    worker.send(signal.SIGTSTP)
    eventually(lambda: len(worker.events("SIGTSTP")) == 2)
    os.kill(worker.pids("ready")[0], signal.SIGKILL)
    eventually(worker.helped)
    never(lambda: len(worker.events("born")) > 2 or len(worker.events("SIGTSTP")) > 2, 1.5)
    worker.send(signal.SIGTERM)
    assert worker.process.wait(7.5) == 0


def test_sigttin_has_every_child_dump_its_stacks(start: Start) -> None:
    worker = start(processes=2)
    eventually(lambda: len(worker.events("ready")) == 2)
    worker.send(signal.SIGTTIN)
    eventually(lambda: len(worker.events("SIGTTIN")) == 2)


def test_a_booting_child_is_not_sent_signals_that_would_freeze_it(start: Start) -> None:
    worker = start("boots")
    eventually(lambda: worker.events("born"))
    worker.send(signal.SIGTSTP)
    worker.send(signal.SIGTTIN)
    eventually(lambda: "is quiet" in worker.said())
    never(lambda: worker.events("SIGTSTP") or worker.events("SIGTTIN"), 0.5)


def test_children_stop_by_themselves_when_the_parent_is_gone(start: Start) -> None:
    worker = start(processes=2)
    eventually(lambda: len(worker.events("ready")) == 2)
    pids = worker.pids("ready")
    worker.send(signal.SIGKILL)
    eventually(lambda: len(worker.events("orphaned")) == 2)
    eventually(lambda: not any(alive(pid) for pid in pids))


def test_a_terminals_ctrl_c_reaches_a_child_only_through_its_parent(start: Start) -> None:
    worker = start()
    pid = eventually(lambda: worker.pids("ready"))[0]
    assert os.getpgid(pid) != os.getpgid(worker.process.pid)
    worker.send(signal.SIGINT)
    assert worker.process.wait(7.5) == 0
    assert (worker.events("SIGINT"), len(worker.events("SIGTERM"))) == ([], 1)


def test_a_child_that_is_misconfigured_ends_the_parent_with_1_and_the_reason(start: Start) -> None:
    worker = start("misconfigured", processes=2)
    assert worker.process.wait(10) == 1
    assert "No module named 'shop'" in worker.said()
    assert "no worker can start: correct the error" in worker.said()


def test_children_that_never_start_end_the_parent_after_five_failures(start: Start) -> None:
    worker = start("fails", processes=5)
    assert worker.process.wait(20) == 1
    assert len(worker.events("born")) >= 5


def test_a_misconfigured_replacement_does_not_end_workers_that_work(start: Start) -> None:
    worker = start(processes=2)
    eventually(lambda: len(worker.events("ready")) == 2)
    text = (worker.folder / "child.py").read_text()
    (worker.folder / "child.py").write_text("import os; os._exit(os.EX_CONFIG)")
    os.kill(worker.pids("ready")[0], signal.SIGKILL)
    eventually(lambda: f"exit code {os.EX_CONFIG}" in worker.said())
    (worker.folder / "child.py").write_text(text)
    eventually(lambda: len(worker.events("ready")) == 3)
    assert worker.process.poll() is None


def test_a_program_that_does_not_exist_ends_the_parent_with_the_reason(start: Start) -> None:
    worker = start(child=["/nonexistent/python"], processes=5)
    assert worker.process.wait(20) == 1
    assert "/nonexistent/python" in worker.said()


def test_a_child_that_outgrows_its_limit_is_asked_to_stop_and_replaced(start: Start) -> None:
    worker = start("works", modes={"1": "fat"}, processes=2, memory_mb=70)
    fat = eventually(lambda: [e for e in worker.events("left") if e[1] == "1"])
    assert len(worker.events("SIGTERM")) >= 1
    eventually(lambda: len([e for e in worker.events("ready") if e[1] == "1"]) >= 2)
    assert f"pid={fat[0][2]}" in worker.said()
    assert "of 70 allowed" in worker.said()
    assert [e for e in worker.events("left") if e[1] == "0"] == []
    assert eventually(worker.helped)[0][-1] == "--clean"


def test_a_helper_that_fails_is_sent_again_without_holding_up_the_replacement(start: Start) -> None:
    worker = start()
    pid = eventually(lambda: worker.pids("ready"))[0]
    (worker.folder / "redis is away").touch()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(worker.events("ready")) == 2)
    eventually(lambda: len(worker.helped()) >= 3)
    (worker.folder / "redis is away").unlink()
    count = len(worker.helped())
    eventually(lambda: len(worker.helped()) > count)
    count = len(worker.helped())
    never(lambda: len(worker.helped()) > count, 1.2)
    assert {tuple(call[1:]) for call in worker.helped()} == {
        (f"host:{pid}:0", "--started", "1.0,1.7")
    }


@pytest.mark.parametrize("fault", ["redis is away", "helper hangs"])
def test_a_stop_does_not_wait_for_a_redis_that_is_away(start: Start, fault: str) -> None:
    worker = start(shutdown=0.5)
    eventually(lambda: worker.events("ready"))
    (worker.folder / fault).touch()
    at = worker.send(signal.SIGTERM)
    assert worker.process.wait(10) == 0
    assert time.monotonic() - at < 0.5 + 5
    assert "leaves jobs to other workers" in worker.said()


def test_systemd_is_told_ready_alive_and_stopping(start: Start, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        worker = start(extra={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"})
        heard: list[str] = []

        def hear(what: str, count: int) -> bool:
            if select.select([manager], [], [], 0)[0]:
                heard.append(manager.recv(100).decode())
            return heard.count(what) >= count

        eventually(lambda: hear("READY=1", 1))
        at = time.monotonic()
        eventually(lambda: hear("WATCHDOG=1", 10))
        assert time.monotonic() - at < 10 * 0.4
        worker.send(signal.SIGTERM)
        eventually(lambda: hear("STOPPING=1", 1))
        assert worker.process.wait(7.5) == 0
    assert heard.count("READY=1") == 1


def test_the_settings_are_not_on_any_command_line(start: Start) -> None:
    worker = start(modes={"redis": "redis://:secret@host"})
    pid = eventually(lambda: worker.pids("ready"))[0]
    for process in (pid, worker.process.pid):
        assert b"secret" not in Path(f"/proc/{process}/cmdline").read_bytes()
