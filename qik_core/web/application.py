"""The dashboard put together: pages behind the gate, as HTML for people and under `/api` as JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from qik_core.client import current as current_client
from qik_core.errors import QikError
from qik_core.settings import current as current_settings
from qik_core.settings import written
from qik_core.store import Store
from qik_core.version import VERSION
from qik_core.web.access import Access, Secrets, Signer
from qik_core.web.acts import Acts, Errands
from qik_core.web.asked import NO_REDIS, Ask, Problem, View, problem_of
from qik_core.web.looks import Looks, Rates
from qik_core.web.showing import REDACTED, Shower, cut, span
from qik_core.web.tabs import Show, Tab, TabPage
from qik_core.web.ways import ways

try:
    import jinja2
    import msgspec
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
except ImportError as error:
    lacking = (error.name or "more").partition(".")[0]
    raise ImportError(f"the dashboard needs {lacking}: pip install 'qik-core[web]'") from error

from qik_core.web.gate import SAFE, STATE, Authorize, Gate, Passed, Rules, base_of, path_of
from qik_core.web.openapi import document

log: Final = logging.getLogger("qik_core.web")

_HERE: Final = Path(__file__).parent
_STRANGER: Final = 401
_OURS: Final = 500
"""From here on the fault is not that of whoever asked."""
_PATH: Final = 200
_STATIC: Final[Mapping[str, str]] = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "htmx.LICENSE.txt": "text/plain; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "uPlot.iife.min.js": "text/javascript; charset=utf-8",
    "uPlot.min.css": "text/css; charset=utf-8",
    "uPlot.LICENSE.txt": "text/plain; charset=utf-8",
}
_TABS: Final = (
    ("Overview", "/"), ("Queues", "/queues"), ("Busy", "/busy"), ("Metrics", "/metrics/jobs"), ("Jobs", "/jobs"),
    ("Scheduled", "/scheduled"), ("Retries", "/retries"), ("Dead", "/dead"), ("Set aside", "/aside"),
)  # fmt: skip
_LAST_TABS: Final = (("Doctor", "/doctor"), ("Settings", "/settings"))

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


def app(
    store: Store | None = None,
    *,
    authorize: Authorize | None = None,
    secrets: Secrets | None = None,
    read_only: bool = False,
    redact: Sequence[str] = REDACTED,
    tabs: Sequence[Tab] = (),
) -> Gate:
    """Return the dashboard as an ASGI application: serve it, or mount it under any prefix.

    `authorize` gets each request and answers `none`, `read` or `admin`, or a `Who`, which has a name too; it may be a coroutine
    function. `secrets` are those of the settings `web_…`, unless given. Without either, only this machine is served. `redact`
    are parts of names whose values in arguments are never shown.

    Raises:
        SettingsError: the settings cannot work.
    """
    secrets = secrets or of_settings()
    return Site(store, Shower(redact), tabs).behind(
        Rules(
            secrets=secrets, authorize=authorize, read_only=read_only, signer=Signer(secrets.key())
        )
    )


def of_settings() -> Secrets:
    """Return the passwords and tokens of the settings. Raises SettingsError."""
    settings = current_settings()
    return Secrets(
        password=settings.web_password,
        read_password=settings.web_read_password,
        token=settings.web_token,
        read_token=settings.web_read_token,
    )


class Site:
    """Routes, templates, files."""

    def __init__(self, store: Store | None, shower: Shower, tabs: Sequence[Tab]) -> None:
        self._store = store
        self._shower = shower
        self._errands = Errands()
        self._tabs = [*_TABS, *((tab.name, tab.pages[0].path) for tab in tabs), *_LAST_TABS]
        self.pages = list(ways(Looks(Rates(), tabs), Acts(self._errands), tabs))
        folders = [
            _HERE / "templates",
            *(tab.templates for tab in tabs if tab.templates is not None),
        ]
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folders),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        self._templates.filters.update(
            span=span, moment=_moment, number="{:,}".format, written=written
        )
        self._files = {name: (_HERE / "static" / name).read_bytes() for name in _STATIC}

    def behind(self, rules: Rules) -> Gate:
        """Return the whole, behind its gate."""
        self._rules = rules
        routes = [
            Route("/static/{name}", self._file, methods=["GET"]),
            Route("/login", self._login, methods=["GET"]),
            Route("/api/openapi.json", self._document, methods=["GET"]),
            *(route for page in self.pages for route in self._routes(page)),
        ]
        handlers: Mapping[Any, Any] = {HTTPException: self._missing, Exception: self._broken}
        inner = Starlette(routes=routes, exception_handlers=handlers)
        inner.router.redirect_slashes = False
        return Gate(inner, rules, self.refused)

    def refused(self, request: Request, problem: Problem) -> Response:
        """Return what is said instead of a page."""
        # A page that Redis could not fill asks again by itself; a form is never sent twice.
        again = problem.status == NO_REDIS and request.method in SAFE
        data = {"said": str(problem), "ask_again": again, "to_login": problem.status == _STRANGER}
        view = View("problem.html", _title(request, problem), data, problem.status)
        if _is_api(request):
            return _json({"error": str(problem)}, problem.status)
        if problem.status == _STRANGER and path_of(request) == "/login":
            view = View("login.html", "Log in", {"said": str(problem)}, problem.status)
        return self._page(request, view)

    def _routes(self, page: TabPage) -> Sequence[Route]:
        found = []
        for method, function in (("GET", page.show), ("POST", page.act)):
            if function is not None:
                endpoint = self._endpoint(function)
                found += [
                    Route(path, endpoint, methods=[method])
                    for path in (page.path, f"/api{page.path}")
                ]
        return found

    def _endpoint(self, function: Show) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return await run_in_threadpool(self._answered, request, function)

        return endpoint

    def _answered(self, request: Request, function: Show) -> Response:
        try:
            ask = self._ask(request)
            if request.method not in SAFE:
                about = {"page": cut(path_of(request), _PATH), "verb": ask.text("verb")}
                log.info("somebody asks for a change", extra={"who": ask.who, **about})
            view = function(ask)
        except QikError as error:
            return self.refused(request, problem_of(error))
        return _json(view.data, view.status) if _is_api(request) else self._page(request, view)

    def _ask(self, request: Request) -> Ask:
        passed: Passed = request.scope[STATE]
        store = self._store or current_client().store
        path = {name: str(value) for name, value in request.path_params.items()}
        ask = Ask(
            store,
            passed.access,
            self._shower,
            passed.query,
            path,
            passed.form,
            name=passed.name,
        )
        return replace(ask, behind=partial(self._errands.behind, who=ask.who))

    def _page(self, request: Request, view: View) -> Response:
        passed: Passed = request.scope[STATE]
        base, path = base_of(request), path_of(request)
        template = self._templates.get_template(view.template)
        query = request.scope["query_string"].decode("latin-1")
        text = template.render(
            view.data,
            title=view.title,
            base=base,
            here=path,
            again=f"{base}{path}" + (f"?{query}" if query and request.method == "GET" else ""),
            tabs=self._tabs if passed.access is not Access.NONE else [],
            may_act=passed.access is Access.ADMIN,
            user=passed.name,
            logged_in=passed.session.access is not Access.NONE,
            csrf=self._rules.signer.token(passed.session),
            errands=self._errands.shown() if passed.access is not Access.NONE else [],
        )
        return Response(
            text.encode("utf-8", "replace"), view.status, media_type="text/html; charset=utf-8"
        )

    # --- what is no page of the table --------------------------------------------------------------

    async def _login(self, request: Request) -> Response:
        return self._page(request, View("login.html", "Log in", {"said": ""}))

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            return self.refused(request, Problem(404, "there is no such file"))
        headers = {
            "cache-control": "public, max-age=3600",
            "etag": f'"{VERSION}"',
        }
        return Response(self._files[name], media_type=_STATIC[name], headers=headers)

    async def _document(self, request: Request) -> Response:
        return _json(document(self.pages, base_of(request)), 200)

    async def _missing(self, request: Request, error: HTTPException) -> Response:
        said = "there is no such page" if error.status_code == 404 else "this page does not do that"  # noqa: PLR2004
        return self.refused(request, Problem(error.status_code, said))

    async def _broken(self, request: Request, _: Exception) -> Response:
        said = "this is a fault of the dashboard: its log has the traceback"
        return self.refused(request, Problem(500, said))


def _json(data: Any, status: int) -> Response:
    return Response(msgspec.json.encode(data), status, media_type="application/json")


def _title(request: Request, problem: Problem) -> str:
    if request.method in SAFE:
        return "This cannot be shown"
    return "This was not done" if problem.status < _OURS else "This was not done, or not all of it"


def _is_api(request: Request) -> bool:
    path = path_of(request)
    return path == "/api" or path.startswith("/api/")


def _moment(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M:%SZ}" if value else ""
