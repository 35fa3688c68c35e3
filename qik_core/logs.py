"""Log lines of a worker process: an event, then its fields, one line an event.

While a job runs, every line that its code writes carries `jid`, `job` and `queue`, whoever's logger it is:

    log = logging.getLogger("shop")
    log.info("charged")          # … INFO 4711 charged jid=… job=Charge queue=billing
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Protocol, TextIO

log: Final = logging.getLogger("qik_core.worker")
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# C0, DEL and C1; then what breaks lines or turns the direction of writing.
_BYTES: Final = (*range(32), *range(127, 160))
_WIDE: Final = (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_CONTROL: Final = {
    **{code: f"\\x{code:02x}" for code in _BYTES},
    **{code: f"\\u{code:04x}" for code in _WIDE},
    9: "\\t",
    10: "\\n",
    13: "\\r",
}
# Indented, so that an error's message cannot begin a line that looks like an event.
_IN_TRACES: Final = {**_CONTROL, 9: "\t", 10: "\n  "}
_COLOURS: Final = (
    (logging.ERROR, "\x1b[31m"),
    (logging.WARNING, "\x1b[33m"),
    (logging.INFO, "\x1b[32m"),
    (logging.NOTSET, "\x1b[2m"),
)
_PAGE: Final = 4_096  # bytes that a pipe takes at once
_MOST: Final = 10_000  # lines that wait
_PATIENCE: Final = 1.0
_LONGEST: Final = 20_000  # characters of a traceback; an error's message may have any length


class Running(Protocol):
    """What is asked of the context of a running job."""

    payload: Any

    @property
    def jid(self) -> str:
        """The job's id."""

    @property
    def queue(self) -> str:
        """The queue that it was pushed to."""


Cell = Callable[[], Running | None]
Fields = Callable[[], Mapping[str, Any]]
_cell: Final[ContextVar[Cell | None]] = ContextVar("qik_cell", default=None)
_cells: Final[dict[int, Cell]] = {}
_further: Final[list[Fields]] = []


def tell_also(fields: Fields) -> None:
    """Let every line carry what `fields` returns when it is written, where the line says nothing of it itself."""
    if fields not in _further:
        _further.append(fields)


def tell_no_more(fields: Fields) -> None:
    """Let lines carry it no longer."""
    if fields in _further:
        _further.remove(fields)


def speak_for(cell: Cell) -> None:
    """Let the lines of this thread, and of the tasks that it starts, tell of the job that `cell` returns when asked.

    Said once by each job thread, so that no run pays for lines that it does not write.
    """
    _cell.set(cell)
    _cells[threading.get_ident()] = cell


def tell_threads() -> None:
    """Write one line for each thread: its name, its number as stacks have it, and the job that it runs."""
    for thread in threading.enumerate():
        number = thread.ident or 0
        cell = _cells.get(number)
        run = cell() if cell is not None else None
        fields = {"jid": run.jid, "job": run.payload.class_name, "queue": run.queue} if run else {}
        named = {"thread_name": thread.name, "number": f"{number:#018x}"}
        log.warning("thread", extra={**named, **fields})


def admit(level: str) -> None:
    """Let lines of this level come as far as the handlers, since a job wants them: `JobFields` drops those of others."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.CRITICAL)
    if number < logging.root.level and any(map(_job_fields, logging.root.handlers)):
        logging.root.setLevel(number)


class JobFields(logging.Filter):
    """Gives log records the fields of the running job, and lets through what the job's own `log_level` asks for.

    A worker process adds it to its own handler and to those of the root logger. An application may add it to others.
    """

    def __init__(self, least: int = logging.NOTSET) -> None:
        """Take the level below which lines are dropped unless a job wants them."""
        super().__init__()
        self._least = least

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is written."""
        cell = _cell.get()
        run = cell() if cell is not None else None
        for fields in _further:
            with contextlib.suppress(Exception):  # nobody who logs fails of it
                vars(record).update({**fields(), **vars(record)})
        if run is not None:
            known = {"jid": run.jid, "job": run.payload.class_name, "queue": run.queue}
            vars(record).update({**known, **vars(record)})
            if (level := _level_of(run)) is not None:
                return record.levelno >= level
        return record.levelno >= self._least or _has_own_level(record.name)


def _level_of(run: Running) -> int | None:
    name = run.payload.get("log_level")
    return logging.getLevelNamesMapping().get(name.upper()) if isinstance(name, str) else None


def _has_own_level(name: str) -> bool:
    """Whether the application gave this logger, or one above it, a level of its own: then that one has decided."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None and logger is not logging.root:
        if logger.level != logging.NOTSET:
            return True
        logger = logger.parent
    return False


class Line(logging.Formatter):
    """`2026-11-21T23:29:31.123Z INFO 4711 job done jid=… job=Charge seconds=0.012`, with a traceback behind it if any.

    Control characters are escaped: data must not write lines of its own, nor to the terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record))
        line = f"{_at(record)} {record.levelname} {record.process} {record.getMessage()}{fields}"
        return line.translate(_CONTROL) + self._behind(record)

    def _behind(self, record: logging.LogRecord) -> str:
        if not record.exc_info:
            return ""
        return f"\n{_shortened(self.formatException(record.exc_info))}".translate(_IN_TRACES)


class Pretty(Line):
    """The same for eyes: the time of day, colours, fields dimmed."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        colour = next(code for least, code in _COLOURS if record.levelno >= least)
        said = record.getMessage().translate(_CONTROL)
        fields = " ".join(f"{name}={value}" for name, value in _fields(record)).translate(_CONTROL)
        line = f"{_at(record)[11:-1]} {colour}{record.levelname:<8}\x1b[0m {said}"
        shown = f" \x1b[2m{fields}\x1b[0m" if fields else ""
        return line + shown + self._behind(record)


class Json(Line):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said = dict(_fields(record))
        said |= {"at": _at(record), "level": record.levelname.lower(), "pid": record.process}
        said |= {"logger": record.name, "thread": record.threadName, "event": record.getMessage()}
        if record.exc_info:
            said["trace"] = _shortened(self.formatException(record.exc_info))
        return json.dumps(said, default=str)


_FORMS: Final[dict[str, type[Line]]] = {"plain": Line, "pretty": Pretty, "json": Json}


def _fields(record: logging.LogRecord) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(record).items() if name not in _PLAIN]


def _at(record: logging.LogRecord) -> str:
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{at}.{int(record.msecs):03d}Z"


def _shortened(text: str) -> str:
    return (
        text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}\n…\n{text[-_LONGEST // 2 :]}"
    )


class Handler(logging.StreamHandler[TextIO]):
    """Writes lines by a thread of its own: a job thread that writes gives its turn to nine others, and waits for all of them.

    A line from WARNING on is out, behind those that wait, when its call returns; a process that is killed loses what has
    waited for some milliseconds. Nobody who logs fails of it, even when a job has closed the stream; where it takes no lines
    for a while, a line says how many are missing.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: deque[str] = deque()
        self._waiting = threading.Event()
        self._turn = threading.Lock()
        self._process = os.getpid()
        self._forked = False
        self._lost = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def handle(self, record: logging.LogRecord) -> Any:
        """Take a record as any handler does, but without its lock: lines are put together by many threads at once."""
        passed: Any = self.filter(record)  # from Python 3.12 on it may be another record
        if passed:
            self.emit(record if passed is True else passed)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Put the line behind the others."""
        if self._process != os.getpid():
            self._begin_anew()
        try:
            self._lines.append(self.format(record) + self.terminator)
            if self._forked or record.levelno >= logging.WARNING or len(self._lines) > _MOST:
                self.flush()
            elif not self._waiting.is_set():
                self._waiting.set()
        except Exception:  # noqa: BLE001 - as logging's own
            self.handleError(record)

    def flush(self) -> None:
        """Write the lines that wait now; nobody waits longer than a second for another thread that writes.

        Raises what the stream raises.
        """
        left = len(self._lines)
        if not self._turn.acquire(timeout=_PATIENCE):
            return
        try:
            while left > 0 and self._lines:
                left -= self._put_next()
        finally:
            self._turn.release()
            if self._lines:
                self._waiting.set()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        """Say so if that can be said."""
        with contextlib.suppress(Exception):
            super().handleError(record)

    def _put_next(self) -> int:
        """Write some lines; returns how many."""
        lines = self._piece()
        try:
            if self._lost:
                self._put(self._gap())
                self._lost = 0
            self._put("".join(lines))
        except BaseException:
            self._lost += len(lines)
            raise
        return len(lines)

    def _put(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()

    def _gap(self) -> str:
        said = f"up to {self._lost} lines are missing here: they could not be written"
        level = {"levelno": logging.WARNING, "levelname": "WARNING"}
        record = logging.makeLogRecord({"name": log.name, "msg": said, **level})
        return self.format(record) + self.terminator

    def _piece(self) -> list[str]:
        """Return whole lines of about a page at the most, which a pipe takes at once beside those of other processes."""
        lines = [self._lines.popleft()]
        room = _PAGE - _bytes(lines[0])
        while self._lines and (room := room - _bytes(self._lines[0])) >= 0:
            lines.append(self._lines.popleft())
        return lines

    def _write(self) -> None:
        while True:
            self._waiting.wait()
            self._waiting.clear()
            try:
                self.flush()
            except Exception:  # noqa: BLE001 - the stream's: lines that are left have this thread try again
                time.sleep(_PATIENCE)

    def _begin_anew(self) -> None:
        """Write at once from now on: the thread, and the lines that wait, are those of the process that forked."""
        self._process, self._forked = os.getpid(), True
        self._lines, self._turn, self._waiting = deque(), threading.Lock(), threading.Event()


def _bytes(line: str) -> int:
    return len(line) if line.isascii() else 4 * len(line)


def finish() -> None:
    """Write what waits, before a process ends by `os._exit`."""
    for handler in logging.root.handlers:
        if isinstance(handler, Handler):
            with contextlib.suppress(Exception):
                handler.flush()


def set_up(level: str, form: str = "plain") -> None:
    """Write log lines to standard error. An application that configures logging itself may do so when it is imported.

    `form` is plain, pretty, json, or auto: pretty on a terminal.
    """
    if form == "auto":
        form = "pretty" if sys.stderr.isatty() else "plain"
    handler = Handler(sys.stderr)
    handler.setFormatter(_FORMS[form]())
    logging.basicConfig(level=level, handlers=[handler])
    carry_job_fields()


def carry_job_fields() -> None:
    """Let every handler of the root logger, also one that an application has put there, tell of the running job."""
    for handler in logging.root.handlers:
        if not _job_fields(handler):
            handler.addFilter(JobFields(logging.root.level))


def _job_fields(handler: logging.Handler) -> bool:
    return any(isinstance(each, JobFields) for each in handler.filters)
