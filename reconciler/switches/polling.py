"""UnleashClient, held short: the one module that imports it.

The client polls, evaluates and reports as it always does. What surrounds it is ours: the clock it asks to be called by, so that
its calls are made on our thread and back off with us; a cache that takes nothing that cannot be read, and writes nothing; an end
to how long and how large an answer may be; and a limit on how much of its trouble it logs.
"""

from __future__ import annotations

import io
import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import requests
from UnleashClient import UnleashClient  # type: ignore[attr-defined]  # it says so in no __all__
from UnleashClient.cache import BaseCache
from UnleashClient.constants import ETAG, FEATURES_URL
from UnleashClient.utils import InstanceAllowType
from urllib3.exceptions import ReadTimeoutError

from reconciler.switches.features import BadDocument

REQUEST: Final = 2
"""Seconds for a connection, and for each next byte of an answer."""
BODY: Final = 5.0
"""Seconds for the whole body of an answer."""
LARGEST: Final = 16_000_000
"""Bytes of an answer at the most, unpacked."""
OFTEN: Final = 300.0
"""Seconds between two lines of UnleashClient's log of the same kind."""

_METRICS: Final = 60
_CHUNK: Final = 65_536
_OF_ERRORS: Final = 10_000  # bytes of the page that comes with an error
OK, UNCHANGED = 200, 304
_REDIRECTS: Final = range(300, 400)
_LOGGERS: Final = ("UnleashClient", "yggdrasil_engine.engine")
_WHERE: Final = re.compile(r"^<.*?>: |^\S+\(.*?\): ")
_SAID: Final[Mapping[int, str]] = {
    401: "it does not take the token (switches.unleash_token, UNLEASH_API_TOKEN)",
    403: "the token is not for this (switches.unleash_token wants a backend token)",
    404: "is switches.unleash_url right, and does it end in /api?",
    429: "it is asked too often",
}


@dataclass(frozen=True, slots=True)
class Door:
    """Where a client goes, and as whom."""

    url: str
    token: str
    app: str
    instance: str
    """Another one for each client, or Unleash counts several as one."""
    refresh: float
    """Seconds between two questions; our clock keeps them, the server is told."""


class TooMuch(requests.RequestException):
    """An answer is larger, or takes longer, than it may."""


class Cache(BaseCache):
    """What the client remembers, in memory. A document that cannot be read never takes the place of one that can.

    `take` gets each document and returns what the engine shall have of it, or raises BadDocument.
    """

    def __init__(self, document: str | None, take: Callable[[str], str]) -> None:
        self._take = take
        self._values: dict[str, Any] = {} if document is None else {FEATURES_URL: document}
        self.bootstrapped = document is not None
        self.refused = ""
        self.taken = False

    def begin(self) -> None:
        """Forget what the poll before came to."""
        self.refused, self.taken = "", False

    def set(self, key: str, value: Any) -> None:
        """Take a document if it can be read, and its tag only with it: a tag alone would make every answer a 304."""
        if key == FEATURES_URL:
            self._document(str(value))
        elif key != ETAG or self.taken:
            self._values[key] = value

    def mset(self, data: dict[str, Any]) -> None:
        """Take several values; the client does so once, when it is made."""
        self._values.update(data)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value."""
        return self._values.get(key, default)

    def exists(self, key: str) -> bool:
        """Whether there is such a value."""
        return key in self._values

    def destroy(self) -> None:
        """Do nothing: what is known outlives the client."""

    def _document(self, text: str) -> None:
        try:
            self._values[FEATURES_URL] = self._take(text)
            self.taken = True
        except BadDocument as error:
            self.refused = str(error)


class _Job:
    """Something that the client wants called again and again."""

    def __init__(self, jobs: list[_Job], call: Callable[[], None], every: float) -> None:
        self._jobs, self._call, self._every = jobs, call, every
        self._due = monotonic() + every

    def remove(self) -> None:
        """Call it no more."""
        self._jobs.remove(self)

    def run_if_due(self) -> None:
        if monotonic() >= self._due:
            self._due = monotonic() + self._every
            self._call()


class _Clock:
    """Stands where the client wants an APScheduler: what falls due is called by `run`, on the thread of whoever calls it."""

    state = 0

    def __init__(self) -> None:
        self.jobs: list[_Job] = []

    def add_job(self, call: Callable[[], None], trigger: Any, **_: object) -> _Job:
        # The first job is the poll: it is due whenever we are called. The other sends counts of use.
        every = trigger.interval.total_seconds() if self.jobs else 0.0
        self.jobs.append(_Job(self.jobs, call, every))
        return self.jobs[-1]

    def run(self) -> None:
        for job in list(self.jobs):
            job.run_if_due()

    def start(self) -> None:
        """Do nothing: there is no thread."""

    def remove_all_jobs(self) -> None:
        self.jobs.clear()

    def shutdown(self, *, wait: bool = True) -> None:
        """Do nothing: there is no thread."""


class Link:
    """One client, of one thread. `engine` is the document to begin with, for flags that the engine is asked for."""

    def __init__(self, door: Door, engine: str | None, take: Callable[[str], str]) -> None:
        _quieten()
        self._cache = Cache(engine, take)
        self._clock = _Clock()
        self._status = 0
        self._where = ""
        self.heard = ""
        """What the client last logged of an exception; empty within a poll that went well."""
        self.wait = 0.0
        """Seconds for which the server asked to be left alone."""
        self._client = self._by_us(lambda: self._make(door))

    def poll(self) -> str:
        """Ask the server, and send what is due. Returns why it gave no answer to rely on; empty if it did."""
        self._cache.begin()
        self._status, self._where, self.heard, self.wait = 0, "", "", 0.0
        began = self._client.is_initialized
        try:
            self._by_us(self._clock.run if began else self._client.initialize_client)
        except Exception as error:  # noqa: BLE001  whatever a library raises, the next poll comes
            self.heard = self.heard or _described(error)
        return self._outcome()

    def ask(self, flag: str, context: Mapping[str, str]) -> bool:
        """Ask the engine, by the last document that it took. Unleash counts this as a use of the flag."""
        return bool(self._by_us(lambda: self._client.is_enabled(flag, dict(context))))

    def close(self) -> None:
        """Send the last counts and end."""
        self._by_us(self._client.destroy)

    def _make(self, door: Door) -> UnleashClient:
        return UnleashClient(
            url=door.url,
            app_name=door.app,
            instance_id=door.instance,
            refresh_interval=max(1, round(door.refresh)),
            metrics_interval=_METRICS,
            request_timeout=REQUEST,
            request_retries=0,
            custom_headers={"Authorization": door.token},
            custom_options={
                "stream": True,  # so that the hook comes before the body
                "hooks": {"response": self._received},
                "allow_redirects": False,  # the token goes where it was meant to go, and nowhere else
                "auth": _as_it_is,
            },
            cache=self._cache,
            scheduler=self._clock,
            scheduler_executor="ours",
            multiple_instance_mode=InstanceAllowType.SILENTLY_ALLOW,
        )

    def _by_us(self, call: Callable[[], Any]) -> Any:
        _here.link = self
        try:
            return call()
        finally:
            _here.link = None

    def _received(self, response: requests.Response, *_: object, **__: object) -> None:
        if (response.request.url or "").partition("?")[0].endswith(FEATURES_URL):
            self._status = response.status_code
            self._where = response.headers.get("Location", "")
            self.wait = _seconds(response.headers.get("Retry-After", ""))
        _read(response)

    def _outcome(self) -> str:
        if self._cache.refused:
            return f"answers with {self._cache.refused}"
        if self._status == OK and self._cache.taken:
            return ""
        if self._status == UNCHANGED and self._cache.exists(FEATURES_URL):
            return ""
        if self.heard and self._status in {0, OK, UNCHANGED}:
            return self.heard
        return self._refusal()

    def _refusal(self) -> str:
        if self._status == 0:
            return "does not answer"
        if self._status == OK:
            return "answers with nothing"
        if self._status == UNCHANGED:
            return "answers 304, though it was given nothing to compare with"
        if self._status in _REDIRECTS:
            return f"answers {self._status} to {self._where or 'nowhere'}: name the final address in switches.unleash_url"
        said = _SAID.get(self._status)
        return f"answers {self._status}{f': {said}' if said else ''}"


def _as_it_is(request: Any) -> Any:
    """Keep our header: without this, a line for the host in ~/.netrc would take its place."""
    return request


def _read(response: requests.Response) -> None:
    """Read the body of an answer to its end, or raise."""
    most = LARGEST if response.status_code == OK else _OF_ERRORS
    until, body, raw = monotonic() + BODY, bytearray(), response.raw
    try:
        while chunk := raw.read1(_CHUNK, decode_content=True):
            body += chunk
            if len(body) > most:
                break
            if monotonic() > until:
                raise TooMuch(f"sends its answer for longer than {BODY:g} s")
    finally:
        raw.close()
    if len(body) > LARGEST:
        raise TooMuch(f"answers with more than {LARGEST:,} bytes")
    response.raw = io.BytesIO(bytes(body))
    response.encoding = "utf-8"  # guessing is slow, and may be wrong


def _seconds(text: str) -> float:
    return float(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else 0.0


def _described(error: BaseException) -> str:
    reason = _reason(error)
    if isinstance(error, TooMuch):
        return str(error)
    if isinstance(error, requests.Timeout) or isinstance(reason, ReadTimeoutError):
        return f"does not answer within {REQUEST} s"
    if isinstance(error, requests.exceptions.RetryError):  # the client would ask again, if it might
        return f"answers with {reason}"
    if isinstance(error, requests.ConnectionError):
        return f"cannot be reached: {re.sub(_WHERE, '', str(reason))[:200]}"
    return f"cannot be asked: {type(error).__name__}: {error!s:.200}"


def _reason(error: BaseException) -> object:
    """Return what the bottom one of three libraries said."""
    first = error.args[0] if error.args else error
    return getattr(first, "reason", first)


_here: Final = threading.local()
_installing: Final = threading.Lock()


class _Quiet(logging.Filter):
    """Lets one line of a kind pass in OFTEN, without traceback, of those that clients of ours cause. Others' are untouched."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a line is written."""
        link = getattr(_here, "link", None)
        if link is None:
            return True
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is not None:
            link.heard = _described(error)
            record.exc_info = record.exc_text = None
        return record.levelno <= logging.DEBUG or self._passes(record)

    def _passes(self, record: logging.LogRecord) -> bool:
        now, kind = monotonic(), str(record.msg)[:100]
        last, held_back = self._passed.get(kind, (-OFTEN, 0))
        if now - last < OFTEN:
            self._passed[kind] = (last, held_back + 1)
            return False
        self._passed[kind] = (now, 0)
        if held_back:
            record.msg = f"{record.getMessage()} ({held_back} more like this since the last)"
            record.args = ()
        return True


_quiet: Final = _Quiet()


def _quieten() -> None:
    with _installing:
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(_quiet)
