"""A worker inside another process, such as a web server: no parent, no signals, few threads.

    worker = EmbeddedWorker()
    worker.start()      # after the fork, where a server forks
    ...
    worker.stop()       # jobs that still run then are settled when they end, as long as the process lives

It works with the settings of the process. Job threads share the interpreter with their host: for anything that computes,
`qik work` is the better place. A job that ends the process ends the host.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import replace
from typing import Final, Self

from qik_core.errors import QikError, WorkerRunning
from qik_core.settings import Settings, current
from qik_core.worker import Site, Worker, start

log: Final = logging.getLogger("qik_core.worker")
THREADS: Final = 2
"""Job threads, unless more are asked for: they take time from their host."""
_GOODBYE: Final = 2.0

_lock: Final = threading.Lock()
_running: dict[int, EmbeddedWorker] = {}  # process id → its worker; a fork has none


class EmbeddedWorker:
    """One worker in this process; one at a time. A context manager, or `start` and `stop`.

    Sidekiq's pages show it and cannot stop it. A copy of it in a forked process is idle, and may be started there.
    """

    def __init__(self, settings: Settings | None = None, *, concurrency: int = THREADS) -> None:
        """Take the settings of this process, or others; `concurrency` is the job threads of the default capsule."""
        self._settings = settings
        self._concurrency = concurrency
        self._worker: Worker | None = None
        self._pid = 0
        self._stopping = threading.Event()
        self._beginning = threading.Thread()

    @property
    def is_running(self) -> bool:
        """Whether it was started in this process and has not ended."""
        return self._worker is not None and self._pid == os.getpid()

    def start(self) -> None:
        """Begin to fetch jobs, as soon as Redis can be reached; does not wait for it.

        Raises:
            WorkerRunning: this process has an embedded worker that has not ended.
            HookFailed: a function for the event startup raised; nothing runs.
            SettingsError: settings that cannot work.
        """
        with _lock:
            if os.getpid() in _running:
                raise WorkerRunning(
                    "this process has an embedded worker already: one has room for any number of capsules; "
                    "stop it first, or give it more `concurrency`"
                )
            worker = self._make()
            worker.prepare()
            self._worker, self._pid = worker, os.getpid()
            _running[self._pid] = self
        self._stopping.clear()
        self._beginning = start(lambda: self._begin(worker), "embedded-begin")

    def quiet(self) -> None:
        """Fetch no more; what runs goes on. Cannot be taken back."""
        if self.is_running and self._worker is not None:
            self._worker.quiet()

    def stop(self, timeout: float | None = None) -> bool:
        """Fetch no more and wait for running jobs, for the setting `shutdown` unless said otherwise; says whether all ended.

        What still runs cannot be interrupted: it is settled when it ends. If the process ends before, other workers take
        it up a lease later. A worker that is not running has ended.
        """
        worker = self._worker
        if worker is None or not self.is_running:
            return True
        self._stopping.set()
        self._beginning.join()  # each of its calls has a deadline
        if self._worker is not worker:
            return True
        seconds = worker.shutdown if timeout is None else timeout
        if worker.close(time.monotonic() + seconds):
            self._end(worker)
            return True
        count = len(worker.courier.capsules.running())
        log.warning("jobs run on beyond the time to stop", extra={"count": count})
        start(lambda: self._end_later(worker), "embedded-end")
        return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _make(self) -> Worker:
        settings = replace(self._settings or current(), concurrency=self._concurrency)
        return Worker(
            settings,
            Site(
                identified=lambda identity: log.info("identity", extra={"identity": identity}),
                marker=lambda _: _ignore,
                signalled=_ignore,
                end=lambda: None,
                embedded=True,
            ),
        )

    def _begin(self, worker: Worker) -> None:
        try:
            worker.begin(self._stopping.is_set)
        except QikError as error:
            log.critical("the embedded worker ends: %s", error)
            self._end(worker)

    def _end(self, worker: Worker) -> None:
        worker.leave(time.monotonic() + _GOODBYE)
        worker.dismiss()
        with _lock:
            self._worker = None
            _running.pop(self._pid, None)

    def _end_later(self, worker: Worker) -> None:
        worker.courier.closed.wait()
        self._end(worker)


def _ignore(_: object) -> None:
    """No parent reads what is started here, and Sidekiq's pages cannot stop it."""
