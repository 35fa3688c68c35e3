"""The parent's side: it asks its children for their numbers, adds them up, and answers probes. Standard library only.

The loop of the parent says when a child comes or goes; everything else is done by the threads of the listener. What a child
counted stays counted when it ends: it is asked every few seconds, and says its last numbers when it stops by itself.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from qik_core.probes.families import WORKER, WORKERS
from qik_core.probes.listener import Answer, Listener
from qik_core.probes.text import CONTENT_TYPE, Samples, add, counted, labels, render
from qik_core.shared import State, clock

FRAME: Final = struct.Struct(">IB")
"""Before each answer of a child: its length, and the number of the question."""
OWN: Final = b"o"
REDIS_TOO: Final = b"r"
_PATIENCE: Final = 1.0  # seconds that all children have together
_REDIS_PATIENCE: Final = 2.5
_TURN: Final = 5.0  # seconds that a question waits for those before it, each up to the two above
_STANDS_STILL: Final = 10.0  # seconds after which a parent that does not turn is not alive
_COUNTED: Final = counted(WORKER)


class Line:
    """The way to one child. What it said last stays known."""

    def __init__(self, ours: socket.socket) -> None:
        self.socket = ours
        self.said: Mapping[str, Any] = {}
        self.silent = False
        """The last question was not answered in time."""
        self._number = 0
        self._heard = b""

    def ask(self, what: bytes) -> None:
        """Ask; a child that has not read older questions is not asked again."""
        self._number = (self._number + 1) % 256
        try:
            self.socket.send(what + bytes([self._number]))
        except OSError:  # full, or the child has gone
            return

    def hear(self) -> bool:
        """Read what has come; True when the last question is answered, or nobody is left to do so."""
        try:
            part = self.socket.recv(1 << 20)
        except BlockingIOError:
            return False
        except OSError:
            return True
        self._heard += part
        return not part or self._number in self._frames()

    def last_words(self) -> None:
        """Read everything that a child has left which has ended."""
        try:
            while part := self.socket.recv(1 << 20):
                self._heard += part
        except OSError:
            pass
        self._frames()
        self.socket.close()

    def _frames(self) -> list[int]:
        """Take whole answers off what was heard; returns their numbers."""
        numbers: list[int] = []
        while len(self._heard) >= FRAME.size:
            length, number = FRAME.unpack_from(self._heard)
            if len(self._heard) < FRAME.size + length:
                break
            self.said = {
                **self.said,
                "redis": None,
                **json.loads(self._heard[FRAME.size :][:length]),
            }
            self._heard = self._heard[FRAME.size + length :]
            numbers.append(number)
        return numbers


class Probes:
    """What a parent answers on its port: /metrics, /livez, /readyz, /scale."""

    def __init__(
        self,
        address: tuple[str, int],
        say: Callable[[str, str], None],
        every: float,
        now: Callable[[], float] = clock,
    ) -> None:
        self._now = now
        self._turned = now()
        self._states: Mapping[int, State | None] = {}
        self._deaths = 0
        self._news: deque[tuple[int, socket.socket | None]] = deque()
        self._lines: dict[int, Line] = {}
        self._departed: Samples = {}
        self._asking = threading.Lock()
        """Of whoever asks children: their lines and what they said."""
        self.listener = Listener(address, self.answer, say, between=self._listen_on, every=every)

    # --- the parent's loop -----------------------------------------------------

    def join(self, seat: int) -> int:
        """Make a line for the child that is about to take a seat; returns the descriptor to pass on and then to close."""
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        self._news.append((seat, ours))
        return theirs.detach()

    def leave(self, seat: int, *, clean: bool) -> None:
        """The child on a seat has ended."""
        self._deaths += not clean
        self._news.append((seat, None))

    def saw(self, now: float, states: Mapping[int, State | None]) -> None:
        """Take note of a turn, and of what each seat's child says of itself; None for a seat without one."""
        self._turned, self._states = now, states

    # --- the listener's threads --------------------------------------------------

    def answer(self, path: str) -> Answer:
        """Answer a path."""
        match path:
            case "/livez":
                return self._livez()
            case "/readyz" | "/metrics" | "/scale":
                return self._in_turn(path)
            case _:
                return Answer(404, "there are /metrics, /livez, /readyz and /scale\n")

    def _in_turn(self, path: str) -> Answer:
        if not self._asking.acquire(timeout=_TURN):
            return Answer(503, f"others have asked for {_TURN:g} s: ask less often\n")
        try:
            return self._asked(path)
        finally:
            self._asking.release()

    def _asked(self, path: str) -> Answer:
        self._ask_all()
        match path:
            case "/readyz":
                return self._readyz()
            case "/metrics":
                return self._metrics()
            case _:
                return self._scale()

    def _livez(self) -> Answer:
        stood = self._now() - self._turned
        if stood > _STANDS_STILL:
            return Answer(503, f"the parent has not turned for {stood:.0f} s\n")
        return Answer(200, "ok\n")

    def _readyz(self) -> Answer:
        missing = [
            f"worker process {seat}: {_why(state, self._lines.get(seat))}"
            for seat, state in sorted(self._states.items())
            if _why(state, self._lines.get(seat))
        ]
        if missing or not self._states:
            return Answer(503, "\n".join(missing or ["no worker process has begun"]) + "\n")
        return Answer(200, "ok\n")

    def _metrics(self) -> Answer:
        said = self._ask_redis()
        samples: Samples = {
            "qik_worker_processes": {
                labels(state=str(state)): list(self._states.values()).count(state)
                for state in State
            },
            "qik_worker_deaths_total": {"": self._deaths},
        }
        add(samples, self._departed)
        for line in self._lines.values():
            add(samples, line.said.get("own", {}))
        add(samples, said.get("samples", {"qik_redis_up": {"": 0}}))
        return Answer(200, render(WORKERS, samples), CONTENT_TYPE)

    def _scale(self) -> Answer:
        scale = self._ask_redis().get("scale")
        if scale is None:
            return Answer(
                503, '{"error": "no worker process could ask Redis"}\n', "application/json"
            )
        return Answer(200, json.dumps(scale) + "\n", "application/json")

    def _listen_on(self) -> None:
        """Ask between scrapes too, so that a child that dies takes only seconds of its numbers with it."""
        if self._asking.acquire(blocking=False):  # who asks already does the same
            try:
                self._ask_all()
            finally:
                self._asking.release()

    def _ask_all(self) -> None:
        self._look_who_is_there()
        for line in self._lines.values():
            line.ask(OWN)
        self._wait(dict(self._lines), _PATIENCE)

    def _ask_redis(self) -> Mapping[str, Any]:
        """Return what Redis says: one child asks it, and another one if that one cannot."""
        deadline = self._now() + _REDIS_PATIENCE
        redis: Mapping[str, Any] = {}
        talking = [each for each in self._lines.items() if not each[1].silent]
        for seat, line in sorted(talking, key=lambda each: not each[1].said.get("ready")):
            if (left := deadline - self._now()) <= 0:
                break
            line.ask(REDIS_TOO)
            if not self._wait({seat: line}, left) and line.said.get("redis"):
                redis = line.said["redis"]
                if redis.get("scale") is not None:
                    break
        return redis

    def _wait(self, asked: dict[int, Line], seconds: float) -> dict[int, Line]:
        """Wait until these have answered; returns those that have not."""
        deadline = self._now() + seconds
        while asked:
            by_socket = {line.socket: seat for seat, line in asked.items()}
            # What lies here already is read however late it is.
            left = max(0.0, deadline - self._now())
            if not (heard := select.select(list(by_socket), [], [], left)[0]):
                break
            for ready in heard:
                if asked[by_socket[ready]].hear():
                    asked.pop(by_socket[ready]).silent = False
        for line in asked.values():
            line.silent = True
        return asked

    def _look_who_is_there(self) -> None:
        while self._news:
            seat, ours = self._news.popleft()
            if (gone := self._lines.pop(seat, None)) is not None:
                gone.last_words()
                own = gone.said.get("own", {})
                add(self._departed, {name: own[name] for name in own.keys() & _COUNTED})
            if ours is not None:
                self._lines[seat] = Line(ours)


def _why(state: State | None, line: Line | None) -> str:
    """Return why a child is not ready; empty if it is."""
    if state is not State.READY:
        return "none runs" if state is None else str(state)
    if line is None or line.silent:
        return "it does not answer"
    if not line.said.get("ready"):
        return "Redis does not answer it"
    return ""
