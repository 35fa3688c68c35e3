from __future__ import annotations

import itertools
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from qik_core.probes import gather
from qik_core.probes.gather import FRAME, Probes
from qik_core.shared import State
from tests.probing import free_port, samples
from tests.waiting import eventually


class Child:
    """The other end of a line: answers with what it is given, or not at all."""

    def __init__(self, fd: int, says: dict[str, Any], *, silent: bool = False) -> None:
        self.line = socket.socket(fileno=fd)
        self.says = says
        self.asked = 0
        if not silent:
            threading.Thread(target=self._run, daemon=True).start()

    def say(self, number: int) -> None:
        body = json.dumps(self.says).encode()
        self.line.sendall(FRAME.pack(len(body), number) + body)

    def _run(self) -> None:
        with suppress(OSError):  # the test has closed the line
            while asked := self.line.recv(4096):
                self.asked += 1
                self.say(asked[-1])


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def counts(done: int) -> dict[str, Any]:
    return {"qik_jobs_total": {'{class="A",end="done"}': done}, "qik_threads": {"": 10}}


@pytest.fixture
def probes() -> Iterator[Probes]:
    probes = Probes(("127.0.0.1", 1), lambda *_: None, 5.0)
    yield probes
    for seat in range(5):
        probes.leave(seat, clean=True)
    probes._look_who_is_there()


def join(probes: Probes, seat: int, says: dict[str, Any], *, silent: bool = False) -> Child:
    return Child(probes.join(seat), says, silent=silent)


def page(probes: Probes) -> dict[str, float]:
    return samples(probes.answer("/metrics").body)


DONE = 'qik_jobs_total{class="A",end="done"}'


def test_numbers_of_all_children_are_added_up(probes: Probes) -> None:
    children = [join(probes, seat, {"own": counts(seat + 1)}) for seat in range(3)]

    seen = page(probes)

    assert (seen[DONE], seen["qik_threads"]) == (6, 30)
    for each in children:
        each.line.close()


def test_counters_of_a_child_that_has_ended_stay_and_its_gauges_go(probes: Probes) -> None:
    child = join(probes, 0, {"own": counts(5)}, silent=True)
    child.say(0)  # its last words, which nobody asked for
    child.line.close()
    probes.leave(0, clean=True)
    after = join(probes, 0, {"own": counts(2)})

    seen = page(probes)

    assert (seen[DONE], seen["qik_threads"]) == (7, 10)
    after.line.close()


def test_a_child_that_is_silent_costs_a_second_and_keeps_what_it_said_before(
    probes: Probes,
) -> None:
    child = join(probes, 0, {"own": counts(5)}, silent=True)
    child.say(0)
    other = join(probes, 1, {"own": counts(1), "redis": {"samples": {"qik_redis_up": {"": 1}}}})

    seen = page(probes)

    assert seen[DONE] == 6
    assert seen["qik_redis_up"] == 1
    child.line.close()
    other.line.close()


def test_an_answer_that_comes_late_is_not_taken_for_that_to_the_next_question(
    probes: Probes,
) -> None:
    child = join(probes, 0, {"own": counts(1), "ready": True}, silent=True)
    probes.saw(probes._now(), {0: State.READY})
    assert probes.answer("/readyz").status == 503
    number = child.line.recv(10)[-1]
    child.say(number)

    assert probes.answer("/readyz").body == "worker process 0: it does not answer\n"
    assert page(probes)[DONE] == 1  # known all the same
    child.line.close()


def test_an_answer_that_lies_there_is_read_by_a_parent_that_has_lost_its_time() -> None:
    seconds = itertools.count(0.0, 10.0)
    probes = Probes(("127.0.0.1", 1), lambda *_: None, 5.0, lambda: next(seconds))
    child = join(probes, 0, {"own": counts(1)}, silent=True)
    child.say(1)

    assert page(probes)[DONE] == 1
    assert not probes._lines[0].silent
    child.line.close()
    probes.leave(0, clean=True)
    probes._look_who_is_there()


def test_a_parent_lives_while_its_loop_turns(probes: Probes) -> None:
    assert probes.answer("/livez").status == 200
    probes.saw(probes._now() - 11, {})

    assert probes.answer("/livez") == (
        503,
        "the parent has not turned for 11 s\n",
        "text/plain; charset=utf-8",
    )


def test_a_parent_says_that_it_lives_while_it_waits_for_its_children(probes: Probes) -> None:
    child = join(probes, 0, {"own": {}}, silent=True)
    waiting = threading.Thread(target=probes.answer, args=("/metrics",))
    waiting.start()

    answer = probes.answer("/livez")

    assert answer.status == 200
    assert waiting.is_alive()
    waiting.join()
    child.line.close()


def test_a_question_behind_others_is_refused_after_a_while(
    probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "_TURN", 0.1)
    with probes._asking:
        assert probes.answer("/metrics").status == 503
        assert probes.answer("/livez").status == 200

    assert probes.answer("/metrics").status == 200


def test_who_is_not_ready_is_named_with_the_reason(probes: Probes) -> None:
    assert probes.answer("/readyz").body == "no worker process has begun\n"
    children = [join(probes, seat, {"own": {}, "ready": seat == 0}) for seat in range(3)]
    children.append(join(probes, 4, {}, silent=True))
    children[3].says = {"own": {}, "ready": True}
    children[3].say(0)
    probes.saw(
        probes._now(), {0: State.READY, 1: State.READY, 2: State.QUIET, 3: None, 4: State.READY}
    )

    answer = probes.answer("/readyz")

    assert answer.status == 503
    assert answer.body.splitlines() == [
        "worker process 1: Redis does not answer it",
        "worker process 2: quiet",
        "worker process 3: none runs",
        "worker process 4: it does not answer",
    ]
    for each in children:
        each.line.close()


def test_redis_is_asked_by_one_child_alone(probes: Probes) -> None:
    redis = {"samples": {"qik_redis_up": {"": 1}}, "scale": {"backlog": 7}}
    children = [join(probes, seat, {"own": {}, "redis": redis, "ready": True}) for seat in range(3)]

    assert json.loads(probes.answer("/scale").body) == {"backlog": 7}

    assert sorted(each.asked for each in children) == [1, 1, 2]
    for each in children:
        each.line.close()


def test_a_child_that_cannot_ask_redis_does_not_speak_for_the_others(probes: Probes) -> None:
    down = {"samples": {"qik_redis_up": {"": 0}}, "scale": None}
    up = {"samples": {"qik_redis_up": {"": 1}}, "scale": {"backlog": 7}}
    children = [
        join(probes, seat, {"own": {}, "redis": redis, "ready": True})
        for seat, redis in enumerate((down, up))
    ]

    assert page(probes)["qik_redis_up"] == 1
    assert json.loads(probes.answer("/scale").body) == {"backlog": 7}
    children[1].says = children[0].says
    assert page(probes)["qik_redis_up"] == 0
    for each in children:
        each.line.close()


def test_an_unknown_path_names_those_that_there_are(probes: Probes) -> None:
    assert probes.answer("/").status == 404
    assert "/metrics" in probes.answer("/").body


def test_a_child_that_asks_no_more_of_its_line_is_let_go(probes: Probes) -> None:
    child = join(probes, 0, {"own": counts(1)})
    page(probes)
    child.line.shutdown(socket.SHUT_RDWR)
    probes.leave(0, clean=False)

    eventually(lambda: page(probes)["qik_worker_deaths_total"] == 1)
    assert probes._lines == {}
    child.line.close()


def test_children_that_are_replaced_while_the_port_is_taken_keep_no_descriptors() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        probes = Probes(("127.0.0.1", port), lambda *_: None, 0.05)
        before = descriptors()
        probes.listener.start()
        for _ in range(50):
            os.close(probes.join(0))
            probes.leave(0, clean=True)

        eventually(lambda: descriptors() <= before)
        probes.listener.stop()
        eventually(lambda: not probes.listener._thread.is_alive())
