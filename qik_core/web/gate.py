"""The one door of the dashboard: who is let in, what they may do, whether they meant it, and how much they may send.

Everything behind it is reached only by way of `Gate`: routes of ours, of tabs, and those that do not exist.
"""

from __future__ import annotations

import asyncio
import hmac
import inspect
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qik_core.web.access import (
    COOKIE,
    SESSION_SECONDS,
    Access,
    Secrets,
    Session,
    Signer,
    Who,
    alone,
    bearer,
    same_origin,
    shown_name,
)
from qik_core.web.asked import MOST_BODY, MOST_QUERY, PARAMS, Problem, checked, fields_of

log: Final = logging.getLogger("qik_core.web")

Said: TypeAlias = Who | Access | str
Authorize: TypeAlias = Callable[[Request], Said | Awaitable[Said]]
Refuse: TypeAlias = Callable[[Request, Problem], Response]

SAFE: Final = ("GET", "HEAD")
OPEN: Final = ("/static/", "/login")
STATE: Final = "qik.web"
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_BODY_SECONDS: Final = 10.0
_FAILURES, _WINDOW = 10, 60.0
_NOBODY: Final = Who(Access.NONE)
_PROGRAM: Final = "token"
"""How a program is called: whoever has a token is one."""
_ALONE: Final = (
    "this dashboard has no password, so it serves this machine alone, without a proxy between. Set QIK_WEB_PASSWORD "
    "(or QIK_WEB_TOKEN for programs), or give app(authorize=…) a function that knows your users"
)


@dataclass(slots=True)
class Passed:
    """What the gate found out about a request."""

    access: Access
    session: Session
    form: Mapping[str, list[str]] = field(default_factory=dict)
    query: Mapping[str, list[str]] = field(default_factory=dict)
    fresh: str = ""
    """A cookie to set."""
    program: bool = False
    """It showed a bearer token: nobody's browser sent it."""
    name: str = ""
    """Who it is, if somebody said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Who is let in."""

    secrets: Secrets
    authorize: Authorize | None
    read_only: bool
    signer: Signer


class Gate:
    """An ASGI application around another."""

    def __init__(
        self, inner: ASGIApp, rules: Rules, refuse: Refuse, now: Callable[[], float] = time.time
    ) -> None:
        self._inner = inner
        self._rules = rules
        self._refuse = refuse
        self._now = now
        self._failures: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it in."""
        if scope["type"] != "http":
            await self._no_page(scope, receive, send)
            return
        request = Request(scope, receive)
        passed = Passed(Access.NONE, self._session(request))
        scope[STATE] = passed
        if not request.cookies.get(cookie_name(request)) or passed.session.nonce == "":
            self._renew(passed, _NOBODY)
        try:
            answer = await self._check(request, passed)
        except Problem as problem:
            answer = self._refuse(request, problem)
        except Exception:
            log.exception("a request was not let in: the function that says who somebody is failed")
            answer = self._refuse(
                request,
                Problem(500, "nobody can say who you are: the log of the dashboard says why"),
            )
        await (answer or self._inner)(scope, receive, _with_headers(request, passed, send))

    async def _no_page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the server's own lifespan through; there is nothing else here."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _check(self, request: Request, passed: Passed) -> Response | None:
        """Return an answer, None to let it in."""
        path = path_of(request)
        passed.query = fields_of(request.scope["query_string"].decode("latin-1"), MOST_QUERY)
        if path.startswith(OPEN[0]) and request.method in SAFE:
            return None
        who = await self._who(request, passed)
        passed.access, passed.name = who.access, who.name
        if path == OPEN[1]:
            return await self._login(request, passed)
        if passed.access is Access.NONE:
            return self._stranger(request, path)
        if request.method in SAFE:
            return None
        if path == "/logout":
            await self._meant(request, passed)
            self._renew(passed, _NOBODY)
            return RedirectResponse(f"{base_of(request)}/login", 303)
        if passed.access is not Access.ADMIN:
            raise Problem(403, "you may look here, and change nothing")
        await self._meant(request, passed)
        return None

    # --- who it is -------------------------------------------------------------------------------

    async def _who(self, request: Request, passed: Passed) -> Who:
        found = await self._shown(request, passed)
        lowered = found.access is Access.ADMIN and self._rules.read_only
        return Who(Access.READ, found.name) if lowered else found

    async def _shown(self, request: Request, passed: Passed) -> Who:
        rules, token = self._rules, bearer(request.headers)
        if token is not None and (found := rules.secrets.of_token(token)) is not Access.NONE:
            passed.program = True
            return Who(found, _PROGRAM)
        if rules.secrets.login and passed.session.access is not Access.NONE:
            return Who(passed.session.access, passed.session.name)
        if rules.authorize is not None:
            return await self._asked(rules.authorize, request)
        client, server = request.scope.get("client"), request.scope.get("server")
        here = alone(client and client[0], server and server[0], request.headers)
        return Who(Access.ADMIN) if here and not rules.secrets.configured else _NOBODY

    @staticmethod
    async def _asked(authorize: Authorize, request: Request) -> Who:
        if inspect.iscoroutinefunction(authorize):
            answer: Any = await authorize(request)
        else:
            answer = await run_in_threadpool(authorize, request)
            answer = await answer if inspect.isawaitable(answer) else answer
        found = answer if isinstance(answer, Who) else Who(answer)
        if found.access not in list(Access) or not isinstance(found.name, str):
            told = "let it answer none, read or admin, or Who(access, name)"
            raise Problem(500, f"authorize answered {answer!r:.40}: {told}")
        return Who(Access(found.access), shown_name(found.name))

    def _stranger(self, request: Request, path: str) -> Response:
        rules = self._rules
        if rules.secrets.login and request.method in SAFE and not path.startswith("/api"):
            if request.headers.get("hx-request"):
                raise Problem(401, "you are logged out: log in again")
            return RedirectResponse(f"{base_of(request)}/login", 303)
        if rules.secrets.configured:
            raise Problem(401, "show a password or a token")
        raise Problem(403, "you may not see this" if rules.authorize else _ALONE)

    def _session(self, request: Request) -> Session:
        cookie = request.cookies.get(cookie_name(request), "")
        found = self._rules.signer.session(cookie, self._now())
        return found or Session(Access.NONE, 0, "")

    def _renew(self, passed: Passed, who: Who) -> None:
        passed.fresh = self._rules.signer.cookie(who, self._now())
        session = self._rules.signer.session(passed.fresh, self._now())
        assert session is not None  # noqa: S101  for the type checker: it was signed just now
        passed.session = session

    # --- what they mean --------------------------------------------------------------------------

    async def _login(self, request: Request, passed: Passed) -> Response | None:
        if not self._rules.secrets.login:
            raise Problem(404, "there is no password here, so there is no login")
        if request.method != "POST":
            return None
        await self._meant(request, passed)
        now = self._now()
        self._failures = [each for each in self._failures if now - each < _WINDOW]
        client = {"client": request.client.host if request.client else ""}
        if len(self._failures) >= _FAILURES:
            log.warning("a login was refused: too many wrong passwords", extra=client)
            raise Problem(429, "there were too many wrong passwords: wait a minute")
        found = self._rules.secrets.of_password("".join(passed.form.get("password", [""])[-1:]))
        if found is Access.NONE:
            self._failures.append(now)
            log.warning("a wrong password was given", extra=client)
            raise Problem(401, "that is not the password")
        self._renew(passed, Who(found, _name_in(passed.form)))
        return RedirectResponse(f"{base_of(request)}/", 303)

    async def _meant(self, request: Request, passed: Passed) -> None:
        """Read the form; a browser's must come from a page of ours, with its token."""
        if not passed.program and not same_origin(request.headers):
            raise Problem(403, "this did not come from a page of this dashboard")
        passed.form = await _form(request)
        given = "".join(passed.form.get("csrf", [""])[-1:]) or request.headers.get(
            "x-csrf-token", ""
        )
        expected = self._rules.signer.token(passed.session)
        if not passed.program and not hmac.compare_digest(
            given.encode("utf-8", "replace"), expected.encode()
        ):
            raise Problem(403, "this form is from another session, or too old: load the page again")


def _name_in(form: Mapping[str, list[str]]) -> str:
    """Return who somebody says they are, which they need not say. Raises Problem: pages and logs cannot show it."""
    given = "".join(form.get("name", [""])[-1:]).strip()
    if shown_name(given) != given:
        raise Problem(400, "this name has characters that cannot be shown: use others, or none")
    return given


async def _form(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form, or of a JSON object; not more than it may be, and not later."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BODY:
                    raise Problem(413, f"this is longer than {MOST_BODY:,} bytes")
    except ClientDisconnect:
        raise Problem(400, "the rest never came") from None
    except TimeoutError:
        raise Problem(408, f"the rest did not come within {_BODY_SECONDS:g} s") from None
    if not body:
        return {}
    if kind == "application/json":
        return _of_json(body)
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "send a form (application/x-www-form-urlencoded) or JSON")
    return fields_of(body.decode("utf-8", "replace"), MOST_BODY)


def _of_json(body: bytes) -> dict[str, list[str]]:
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(400, "this is not JSON") from None
    if not isinstance(value, dict):
        raise Problem(400, "send a JSON object")
    found = {}
    for name, given in value.items():
        texts = given if isinstance(given, list) else [given]
        if name not in PARAMS or not all(isinstance(text, str) for text in texts):
            raise Problem(400, f"{name!r:.80}: use known names, and texts or lists of texts")
        found[name] = [checked(name, text) for text in texts]
    return found


def _with_headers(request: Request, passed: Passed, send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            for name, value in HEADERS.items():
                headers[name] = value
            if "cache-control" not in headers:
                headers["cache-control"] = "no-store"
            if request.scope.get("scheme") == "https":
                headers["strict-transport-security"] = "max-age=31536000"
            if passed.fresh and not passed.program and "etag" not in headers:
                headers.append("set-cookie", _cookie(request, passed.fresh))
            message = {**message, "headers": headers.raw}
        await send(message)

    return sent


def _cookie(request: Request, value: str) -> str:
    # Whoever invents this header harms nobody but themselves.
    told = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    secure = "; Secure" if "https" in (request.scope.get("scheme"), told) else ""
    name, path = cookie_name(request), base_of(request) or "/"
    return f"{name}={value}; Path={path}; Max-Age={SESSION_SECONDS}; HttpOnly; SameSite=Lax{secure}"


def cookie_name(request: Request) -> str:
    """Return what the cookie is called here: another dashboard on this host, by port or by prefix, has another.

    A browser keeps one cookie of a name for all ports of a host, and sends that of / to every prefix too.
    """
    port = request.headers.get("host", "").rpartition(":")[2]
    here = f"{port if port.isdigit() else ''}{base_of(request)}"
    return re.sub(r"\W", "_", f"{COOKIE}_{here}", flags=re.ASCII) if here else COOKIE


def base_of(request: Request) -> str:
    """Return the prefix under which the dashboard is mounted; empty at the root. Always a path of this site."""
    prefix = request.scope.get("root_path", "").rstrip("/")
    return prefix if prefix.startswith("/") and not prefix.startswith(("//", "/\\")) else ""


def path_of(request: Request) -> str:
    """Return the path below the prefix."""
    path: str = request.scope["path"]
    prefix = request.scope.get("root_path", "").rstrip("/")
    return path.removeprefix(prefix) if prefix and path.startswith(f"{prefix}/") else path
