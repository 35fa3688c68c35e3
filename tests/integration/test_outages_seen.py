"""Redis or SQL dies, or falls silent, before open pages and running commands: each says so within 3 s, and comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from qik_core.embedded import Embedded
from qik_core.store import Store
from qik_core.web import Secrets, app
from reconciler.engines import make
from reconciler.web import tabs
from tests.chromium import Tab, chromium
from tests.qik_core.web.site import served
from tests.reconciler import tables
from tests.servers import Postgres, _processes
from tests.waiting import busy, eventually

ROOT = Path(__file__).parents[2]
SEEN = 3.0
WELL = {
    "/": "Days",
    "/reconcilers": "No reconciler has ever run here",
    "/switches": "Nothing is switched off",
    "/incident": "Nothing happened",
}
"""What each page shows while all is well."""
ENDED, SILENT = "ended", "silent"
FIRST = {ENDED: "does not answer", SILENT: "No answer yet from"}
"""What an open page says first: who is silent may still answer before the deadline."""


@pytest.fixture
def home(postgres_url: str) -> Iterator[Engine]:
    made = make(postgres_url)
    tables.make(made)
    yield made
    made.dispose()


@pytest.fixture
def url(redis_url: str, home: Engine) -> Iterator[str]:
    """A dashboard."""
    store = Store(redis_url)
    store.look()
    with served(app(store, secrets=Secrets(), tabs=tabs({"default": home}))) as address:
        yield address
    store.close()


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with chromium(tmp_path / "profile") as tab:
        yield tab


@contextmanager
def without(server: Embedded | Postgres, how: str) -> Iterator[None]:
    """Let a server be killed, or take connections and never answer."""
    if how == ENDED:
        server.kill()
    else:
        _signal(server, signal.SIGSTOP)
    try:
        yield
    finally:
        if how == ENDED:
            server.start()
        else:
            _signal(server, signal.SIGCONT)


def _signal(server: Embedded | Postgres, number: signal.Signals) -> None:
    own = [server.pid] if isinstance(server, Embedded) else _processes(server.folder / "data")
    for each in filter(None, own):
        os.kill(each, number)


def comes_back(tab: Tab, page: str) -> bool:
    """Whether all is well on an open page."""
    text = tab.text()
    told = any(word in text for word in ("not answer", "No answer yet"))
    return "Redis answers" in text and WELL[page] in text and not told


def says_so_and_comes_back(
    tab: Tab, page: str, outage: AbstractContextManager[None], words: tuple[str, str]
) -> None:
    """Hold what an open page says at once, what it says at its deadline, and that it is well again afterwards."""
    first, then = words
    eventually(lambda: comes_back(tab, page))

    with outage:
        eventually(lambda: first in tab.text(), SEEN * busy())
        eventually(lambda: then in tab.text(), 15.0 * busy())

    eventually(lambda: comes_back(tab, page), 15.0 * busy())


@pytest.mark.parametrize("how", [ENDED, SILENT])
@pytest.mark.parametrize("page", WELL)
def test_an_open_page_says_that_redis_does_not_answer(
    url: str, tab: Tab, redis_server: Embedded, page: str, how: str
) -> None:
    tab.open(url + page)
    says_so_and_comes_back(
        tab, page, without(redis_server, how), (FIRST[how], "Redis does not answer")
    )


@pytest.mark.parametrize("how", [ENDED, SILENT])
@pytest.mark.parametrize("page", ["/reconcilers", "/switches", "/incident"])
def test_an_open_page_says_that_sql_does_not_answer(
    url: str, tab: Tab, postgres: Postgres, page: str, how: str
) -> None:
    tab.open(url + page)
    says_so_and_comes_back(tab, page, without(postgres, how), (FIRST[how], "SQL does not answer"))


# --- commands ------------------------------------------------------------------------------------


@pytest.fixture
def environment(home: Engine, redis_url: str, postgres_url: str) -> Mapping[str, str]:
    """What commands are told."""
    named = {"REDIS_URL": redis_url, "DATABASE_URL": postgres_url, "PYTHONPATH": str(ROOT)}
    return {**os.environ, **named}


class Watching:
    """`reconciler status --watch --json`, and what it said last."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.last: dict[str, Any] = {}
        self.looks = 0
        command = [sys.executable, "-m", "reconciler.cli", "status", "--watch", "--json"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def is_well(self) -> bool:
        """Whether both answered."""
        return self.last.get("errors") == [] and "untold" in self.last

    def says(self, name: str) -> bool:
        """Whether it named who did not answer."""
        return any(name in each for each in self.last.get("errors", []))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.last = json.loads(line)
                self.looks += 1


@pytest.fixture
def watching(environment: Mapping[str, str]) -> Iterator[Watching]:
    made = Watching(environment)
    yield made
    made.close()


@pytest.mark.parametrize("how", [ENDED, SILENT])
@pytest.mark.parametrize(("which", "name"), [("redis_server", "Redis"), ("postgres", "SQL")])
def test_a_status_that_is_watched_says_who_does_not_answer(
    watching: Watching, request: pytest.FixtureRequest, which: str, name: str, how: str
) -> None:
    eventually(watching.is_well, 30.0)
    before = watching.looks
    eventually(lambda: watching.looks > before)  # the next look is as far away as it can be

    with without(request.getfixturevalue(which), how):
        eventually(lambda: watching.says(name), SEEN * busy())

    eventually(watching.is_well, 15.0 * busy())


@pytest.mark.parametrize("how", [ENDED, SILENT])
@pytest.mark.parametrize(
    ("command", "which", "code"),
    [
        (("qik_core.cli", "queues", "--json"), "redis_server", 4),
        (("reconciler.cli", "switches", "--json"), "redis_server", 4),
        (("reconciler.cli", "switches", "--json"), "postgres", 5),
    ],
)
def test_a_command_that_is_started_meanwhile_ends_and_says_why(
    environment: Mapping[str, str],
    request: pytest.FixtureRequest,
    command: tuple[str, ...],
    which: str,
    code: int,
    how: str,
) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", *command]
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)

    with without(request.getfixturevalue(which), how):
        began, told = time.monotonic(), run()
        took = time.monotonic() - began

    assert told.returncode == code
    assert any(word in told.stdout + told.stderr for word in ("answer", "refused"))
    assert took < SEEN * busy()
    assert run().returncode == 0
