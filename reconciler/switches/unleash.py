"""Kill switches from an Unleash server.

One thread of this process polls, as UnleashClient does, and turns the flags that it gets into rules: no check of a job ever
evaluates a flag. Whatever the server does, its last good answer stays in force: in memory, and in a file for the next start.

`start` returns at once: the library is imported, the client made and the server asked on that thread. A poll that hangs in a
way that no time-out of a socket ends is left behind, and a new client takes over. A forked child begins anew.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread, Timer, current_thread
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit
from weakref import WeakSet

import msgspec

from qik_core import application
from qik_core.switches import Rule
from reconciler import registry
from reconciler.switches import features
from reconciler.switches.features import BadDocument, Document, Ground, Names
from reconciler.switches.fitting import fitting
from reconciler.switches.kept import Kept, NotKept
from reconciler.switches.naming import of_application
from reconciler.switches.pacing import LONGEST, Answers, Pace, pause
from reconciler.switches.provider import CLOSING, Rules, Source

log: Final = logging.getLogger("reconciler")

REFRESH: Final = 1.0
"""Seconds between two questions."""
PATIENCE: Final = 15.0
"""Seconds after which a poll that has not ended is left behind."""
LEFT: Final = 3
"""Polls that hang, at the most; no further client is made before one of them ends."""
_FORMAT: Final = 1


def known() -> Names:
    """Return the names of this process's application."""
    return Names(
        {each.name: each.queue for each in application.jobs()},
        {each.name: each.facts.name for each in registry.everything()},
        frozenset(of_application().queues),
    )


class Means(NamedTuple):
    """What the provider takes from the world around it."""

    names: Callable[[], Names] = known
    now: Callable[[], float] = time.time
    """Epoch seconds."""
    dice: Callable[[], float] = random.random
    patience: float = PATIENCE
    longest: float = LONGEST


MEANS: Final = Means()


class _Link(Protocol):
    wait: float

    def poll(self) -> str: ...
    def ask(self, flag: str, context: Mapping[str, str]) -> bool: ...
    def close(self) -> None: ...


class _Saved(msgspec.Struct, frozen=True):
    format: int
    document: str
    rules: dict[str, tuple[Rule, ...]]


class Unleash:
    """The flags `disable_…` of an Unleash server. See `Provider`.

    `app_name` is how the server knows this application, `refresh` the seconds between two questions, `folder` where the last
    good answer is kept, None: nowhere.
    """

    name: Final = Source.UNLEASH

    def __init__(
        self,
        url: str,
        token: str | None,
        app_name: str,
        refresh: float = REFRESH,
        folder: Path | None = None,
        means: Means = MEANS,
    ) -> None:
        self._url, self._token, self._app, self._refresh = url, token or "", app_name, refresh
        self._means = means
        self._pace = Pace(refresh, max(refresh, means.longest))
        self._kept = None if folder is None else Kept(folder, _file(url, self._token))
        self._lock, self._closing = Lock(), Event()
        self._turn = 0
        self._thread: Thread | None = None
        self._left: list[Thread] = []
        self._answers = Answers()
        self._rules: Rules | None = None
        self._document: tuple[str, Document] | None = None
        self._saved: tuple[object, object] | None = None
        self._notes: tuple[str, ...] = ()
        self._strays: set[str] = set()
        self._complaint = ""
        self._warned = False
        self._changed: Callable[[], None] = _nobody

    def start(self, changed: Callable[[], None]) -> None:
        """Take up what was kept, and begin to poll on a thread."""
        self._changed = changed
        self._recall()
        _started.add(self)
        self._begin()

    def rules(self) -> Rules | None:
        """Return the rules of the last good answer; None if there never was one."""
        return self._rules

    def health(self) -> str:
        """Return why the rules may be old, and which flags are not followed to the letter."""
        said = self._described(self._answers.said(self._refresh, time.monotonic()))
        return "; ".join(each for each in (said, self._complaint, *self._notes) if each)

    def close(self, seconds: float = CLOSING) -> None:
        """Stop polling."""
        _started.discard(self)
        self._closing.set()
        if self._thread is not None and self._thread is not current_thread():
            self._thread.join(max(0.0, seconds))

    # --- the thread that polls ---

    def _begin(self) -> None:
        with self._lock:
            self._turn += 1
            turn = (self._turn,)
            self._thread = Thread(
                target=self._run, args=turn, name="reconciler-unleash", daemon=True
            )
        self._thread.start()

    def _run(self, turn: int) -> None:
        link: _Link | None = None
        failures = 0
        while self._mine(turn):
            try:
                with self._watched(turn):
                    link = link or self._link(turn)
                    fault = link.poll()
                    self._note(turn, fault)
                    self._settle(turn, link)
            except Exception as error:  # this thread must outlive whatever a library may raise
                log.exception("unleash fails")
                fault = f"cannot be asked: {type(error).__name__}: {error!s:.200}"
                self._note(turn, fault)
            failures = failures + 1 if fault else 0
            wanted = 0.0 if link is None else link.wait
            self._closing.wait(pause(self._pace, failures, wanted, self._means.dice()))
        if link is not None and turn == self._turn:
            with suppress(Exception):
                link.close()

    def _mine(self, turn: int) -> bool:
        return turn == self._turn and not self._closing.is_set()

    def _link(self, turn: int) -> _Link:
        # Half a second of imports, for those who have a server.
        from reconciler.switches.polling import Door, Link

        instance = f"{socket.gethostname()}-{os.getpid()}-{next(_count)}"
        door = Door(self._url, self._token, self._app, instance, self._refresh)
        there = self._document
        link = Link(door, there and self._for_engine(*there), partial(self._take, turn))
        self._settle(turn, link)
        return link

    @contextmanager
    def _watched(self, turn: int) -> Iterator[None]:
        timer = self._timer(turn)
        try:
            yield
        finally:
            timer.cancel()

    def _timer(self, turn: int) -> Timer:
        timer = Timer(self._means.patience, self._leave_behind, (turn,))
        timer.daemon = True
        timer.start()
        return timer

    def _leave_behind(self, turn: int) -> None:
        """Let another client take over from one that hangs; its thread ends when its call does."""
        if not self._mine(turn):
            return
        self._note(turn, "does not end its answer")
        self._left = [each for each in self._left if each.is_alive()]
        if len(self._left) >= LEFT:
            self._timer(turn)
            return
        if self._thread is not None:
            self._left.append(self._thread)
        self._begin()

    # --- what it comes to know ---

    def _take(self, turn: int, text: str) -> str:
        """Take a document from a client; returns what its engine shall have. Raises BadDocument."""
        text = features.whole(text)
        document = features.parse(text)
        with self._lock:
            if turn != self._turn:
                raise BadDocument("a document that came too late")
            if self._document is None or self._document[0] != text:
                self._document = text, document
        return self._for_engine(text, document)

    def _for_engine(self, text: str, document: Document) -> str:
        return features.for_engine(
            text, features.translate(document, self._ground(self._means.names())).asked
        )

    def _ground(self, names: Names) -> Ground:
        return Ground(names, {"appName": self._app, "environment": "default"})

    def _settle(self, turn: int, link: _Link) -> None:
        """Make rules of the last good document."""
        if self._document is None:
            return
        names, (text, document) = self._means.names(), self._document
        reading = features.translate(document, self._ground(names))
        rules = dict(reading.rules)
        for flag, contexts in features.contexts(names).items():
            if flag in document.features:  # asked in any case, so that Unleash shows it as in use
                said = features.answers(flag, contexts, link.ask)
                rules[flag] = rules.get(flag, ()) + (said if flag in reading.asked else ())
        strays = [*features.strays([*reading.rules, *reading.asked], names)]
        with self._lock:
            if turn != self._turn:
                return
            before = self._rules
            made, refused = fitting(_dated(rules, before or {}, self._means.now()), before or {})
            strays += refused
            self._notes = (*reading.notes, *strays)
            if made != before:
                self._rules = made
        if made != before:
            self._tell()
        self._keep(text)
        for stray in {*strays} - self._strays:
            log.warning(stray)
        self._strays = {*strays}

    def _tell(self) -> None:
        try:
            self._changed()
        except Exception:  # it is not ours, and the polling goes on
            log.exception("what should hear of changed switches failed")

    def _note(self, turn: int, fault: str) -> None:
        with self._lock:
            if turn != self._turn:
                return
            self._answers.fault = fault
            if not fault:
                self._answers.last = time.monotonic()
        self._warn()

    def _warn(self) -> None:
        said = self._described(self._answers.stale(self._refresh, time.monotonic()))
        if said and not self._warned:
            log.warning("unleash does not answer", extra={"error": said})
        elif self._warned and not said:
            log.info("unleash answers again")
        self._warned = bool(said)

    def _described(self, said: str) -> str:
        if not said:
            return ""
        consequence = (
            "nothing is known of its switches" if self._rules is None else "its last word counts"
        )
        return f"Unleash at {_shown(self._url)} {said}: {consequence}"

    # --- the file ---

    def _recall(self) -> None:
        if self._kept is None:
            return
        try:
            raw = self._kept.load()
            if raw is None:
                return
            saved = _saved.decode(raw)
            document = features.parse(saved.document)
        except (NotKept, BadDocument, msgspec.MsgspecError, RecursionError) as error:
            self._complain(f"what was known of Unleash's switches is not used: {error}")
            return
        if saved.format == _FORMAT:
            self._document, self._rules = (saved.document, document), fitting(saved.rules, {})[0]
            self._saved = saved.document, saved.rules

    def _keep(self, text: str) -> None:
        rules = self._rules or {}
        if self._kept is None or self._saved == (text, rules):
            return
        try:
            self._kept.save(msgspec.json.encode(_Saved(_FORMAT, text, dict(rules))))
        except NotKept as error:
            self._complain(f"Unleash's switches are not kept: {error}")
        else:
            self._complaint = ""
        self._saved = text, rules

    def _complain(self, said: str) -> None:
        if said != self._complaint:
            log.warning(said)
        self._complaint = said

    # --- a fork ---

    def _again(self) -> None:
        """Begin anew in a forked child, which has neither this thread nor its sockets."""
        self._lock, self._closing, self._left = Lock(), Event(), []
        self._answers = Answers()
        self._begin()


_count: Final = itertools.count(1)
_saved: Final = msgspec.json.Decoder(_Saved)
_started: Final[WeakSet[Unleash]] = WeakSet()


def _after_fork() -> None:
    for each in list(_started):
        each._again()  # noqa: SLF001  of this module


os.register_at_fork(after_in_child=_after_fork)


def _nobody() -> None:
    """Hear of nothing."""


def _file(url: str, token: str) -> str:
    """Return the name of the file for one server and token: another environment never takes up this one's switches."""
    digest = hashlib.sha256(f"{url}\n{token}".encode()).hexdigest()
    return f"unleash-{digest[:16]}.json"


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _dated(
    rules: Mapping[str, tuple[Rule, ...]], before: Rules, now: float
) -> dict[str, tuple[Rule, ...]]:
    """Return rules with the time since which their flags stop something; flags that stop nothing are left out."""
    found = {}
    for flag, each in rules.items():
        if each:
            since = before[flag][0].since if flag in before else now
            found[flag] = tuple(replace(rule, since=since) for rule in each)
    return found
