"""The door: who is let in, by every route and method; forms that nobody meant; GET that changes nothing."""

# ruff: noqa: S106  passwords of nobody

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from qik_core.web import Access, Secrets, Who, app
from qik_core.web.access import Signer
from qik_core.web.application import _STATIC
from qik_core.web.application import Site as Pages
from qik_core.web.gate import HEADERS
from qik_core.web.showing import Shower
from tests.qik_core.store.rig import Rig
from tests.qik_core.web.conftest import Site
from tests.qik_core.web.site import Browser, digest_of
from tests.qik_core.web.test_looks import PAGES, filled

WITH = Secrets(
    password="correct horse", read_password="only look", token="program-1", read_token="program-2"
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


def paths() -> Iterator[str]:
    """Every path that the dashboard has, as HTML and as JSON, and some that it has not."""
    for page in Pages(None, Shower(), ()).pages:
        path = re.sub(r"\{(\w+)\}", r"x-\1", page.path)
        yield path
        yield f"/api{path}"
    yield from (
        "/logout",
        "/api/openapi.json",
        "/nowhere",
        "/api",
        "/api/nowhere",
        "//",
        "/%2e%2e/static/app.css",
    )


@pytest.mark.parametrize("method", METHODS)
def test_without_credentials_every_route_answers_401_403_or_the_login(
    site: Site, method: str
) -> None:
    browser = site(secrets=WITH)

    for path in paths():
        answer = browser.client.request(method, path)
        to_login = answer.status_code == 303 and answer.headers["location"] == "/login"
        assert to_login or answer.status_code in (401, 403), (path, answer.status_code)


@pytest.mark.parametrize("method", METHODS)
def test_whom_the_hook_does_not_know_gets_403_on_every_route(site: Site, method: str) -> None:
    browser = site(authorize=lambda request: Access.NONE)

    answers = {path: browser.client.request(method, path).status_code for path in paths()}

    assert set(answers.values()) == {403}, answers


@pytest.mark.parametrize("who", ["password", "token", "hook", "setting"])
def test_who_may_only_look_gets_403_on_every_route_that_could_change_something(
    rig: Rig, site: Site, who: str
) -> None:
    filled(rig)
    before = digest_of(rig.raw)
    options: dict[str, Any] = {
        "hook": {"authorize": lambda request: "read"},
        "setting": {"read_only": True},
    }
    browser = site(**options.get(who, {"secrets": WITH}))
    if who == "password":
        assert browser.login("only look").status_code == 303
    if who == "token":
        browser.client.headers["Authorization"] = "Bearer program-2"
    assert browser.get("/").status_code == 200

    for path in {*paths()} - {"/logout"}:
        for method in METHODS[2:]:
            headers = {"Sec-Fetch-Site": "same-origin"}
            answer = browser.client.request(
                method, path, headers=headers, data={"csrf": browser.token}
            )
            assert answer.status_code == 403, (method, path)
    assert digest_of(rig.raw) == before


def test_all_pages_together_leave_redis_byte_identical(rig: Rig, site: Site) -> None:
    filled(rig)
    rig.worker().fetch(1)
    before = digest_of(rig.raw)
    browser = site()

    for path in (*PAGES, *paths()):
        for prefix in ("", "/api"):
            for method in ("GET", "HEAD"):
                more = f"{'&' if '?' in path else '?'}verb=delete&sure=yes&_method=POST"
                answer = browser.client.request(method, f"{prefix}{path}{more}")
                wanted = (200,) if path in PAGES else (200, 400, 404, 405)
                assert answer.status_code in wanted, (method, prefix, path)
    found = browser.get("/api/retries").json()["rows"][0]
    browser.get(f"/jobs/{found['jid']}", params={"place": "retries", "mark": found["mark"]})

    assert digest_of(rig.raw) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"},
        {"Origin": "null"}, {"Origin": "https://evil.example"}, {},
        {"Sec-Fetch-Site": "same-origin", "Content-Type": "text/plain"},
    ],
    ids=str,
)  # fmt: skip
def test_a_form_from_elsewhere_changes_nothing_even_with_the_cookie_and_the_token(
    rig: Rig, site: Site, headers: dict[str, str]
) -> None:
    filled(rig)
    browser = site(secrets=WITH)
    browser.login("correct horse")
    browser.get("/queues")
    form = f"csrf={browser.token}&verb=pause"

    answer = browser.client.post(
        "/queues/default",
        content=form,
        headers={"Content-Type": "application/x-www-form-urlencoded", **headers},
    )

    assert answer.status_code in (403, 415)
    assert not rig.raw.sismember("paused", "default")


@pytest.mark.parametrize("token", ["", "wrong"])
def test_a_form_without_the_token_of_its_session_changes_nothing(
    rig: Rig, site: Site, token: str
) -> None:
    filled(rig)
    browser = site(secrets=WITH)
    browser.login("correct horse")

    answer = browser.post("/queues/default", {"verb": "pause", "csrf": token})

    assert answer.status_code == 403
    assert not rig.raw.sismember("paused", "default")


def test_an_old_browser_is_known_by_its_origin(rig: Rig, site: Site) -> None:
    filled(rig)
    browser = site()
    browser.get("/queues")
    form = {"csrf": browser.token, "verb": "pause"}

    answer = browser.client.post("/queues/default", data=form, headers={"Origin": browser.url})

    assert answer.status_code == 200
    assert rig.raw.sismember("paused", "default")


def test_the_password_opens_and_leaving_closes(site: Site) -> None:
    browser = site(secrets=WITH)

    assert browser.login("wrong").status_code == 401
    assert browser.login("correct horse").headers["location"] == "/"
    assert browser.get("/retries").status_code == 200
    assert browser.post("/logout").headers["location"] == "/login"
    assert browser.get("/retries").headers["location"] == "/login"


def test_a_poll_of_a_session_that_ended_has_the_place_that_says_so(site: Site) -> None:
    browser = site(secrets=WITH)

    polled = browser.client.get("/pulse", headers={"HX-Request": "true"})
    other = browser.client.get("/login")

    assert polled.status_code == 401
    assert re.search(r'<div id="pulse".*you are logged out: log in again', polled.text)
    assert 'id="pulse"' not in other.text


def test_a_session_is_another_one_after_the_login_and_ends_with_the_password(site: Site) -> None:
    browser = site(secrets=WITH)
    browser.get("/login")
    _, before = browser.cookie
    browser.login("correct horse")
    _, cookie = browser.cookie
    other = site(secrets=Secrets(password="another one"))
    other.get("/login")
    name, _ = other.cookie

    answer = other.client.get("/", headers={"Cookie": f"{name}={cookie}"})

    assert before != cookie
    assert answer.headers["location"] == "/login"


def test_cookies_that_we_did_not_sign_are_nobody(site: Site) -> None:
    browser = site(secrets=WITH)
    browser.get("/login")
    name, _ = browser.cookie
    forged = Signer(b"x" * 32).cookie(Who(Access.ADMIN), 9e9)

    for cookie in (forged, "admin.99999999999.aa.", "....", "x" * 5_000, "é"):
        answer = browser.client.get("/", headers={b"Cookie": f"{name}={cookie}".encode()})
        assert answer.headers.get("location") == "/login", cookie


def test_guessing_passwords_is_slow(site: Site) -> None:
    browser = site(secrets=WITH)

    codes = [browser.login(f"guess {n}").status_code for n in range(11)]

    assert codes == [401] * 10 + [429]


def test_wrong_passwords_are_logged_without_what_was_given(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    browser = site(secrets=WITH)

    with caplog.at_level(logging.WARNING, "qik_core.web"):
        for number in range(11):
            browser.login(f"guess {number}")

    said = [(each.getMessage(), each.__dict__["client"]) for each in caplog.records]
    assert said[:10] == [("a wrong password was given", "127.0.0.1")] * 10
    assert said[10:] == [("a login was refused: too many wrong passwords", "127.0.0.1")]
    assert "guess" not in str([each.__dict__ for each in caplog.records])


@pytest.mark.parametrize(
    ("said", "secure"),
    [("https", True), ("HTTPS, http", True), ("http", False), ("http, https", False), ("", False)],
)
def test_behind_a_proxy_with_tls_the_cookie_goes_nowhere_else(
    site: Site, said: str, secure: bool
) -> None:
    browser = site(secrets=WITH)

    answer = browser.get("/login", headers={"X-Forwarded-Proto": said})

    assert ("; Secure" in answer.headers["set-cookie"]) is secure


def test_a_program_shows_its_token_and_needs_no_form(rig: Rig, site: Site) -> None:
    filled(rig)
    browser = site(secrets=WITH)
    url, headers = "/api/queues/default", {"Authorization": "Bearer program-1"}

    answer = browser.client.post(url, json={"verb": "pause"}, headers=headers)
    wrong = browser.client.post(url, json={"verb": "resume"}, headers={"Authorization": "Bearer x"})

    assert answer.json()["changed"] is True
    assert wrong.status_code in (401, 403)
    assert rig.raw.sismember("paused", "default")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "1.2.3.4"},
        {"Forwarded": "for=1.2.3.4"},
        {"Host": "evil.example"},
        {"Host": "["},
    ],
    ids=str,
)
def test_without_a_password_only_this_machine_is_served(
    site: Site, headers: dict[str, str]
) -> None:
    browser = site()

    assert browser.client.get("/").status_code == 200
    assert browser.client.get("/", headers=headers).status_code in (400, 403)


def test_without_a_password_another_machine_gets_nothing(rig: Rig) -> None:
    transport = httpx.ASGITransport(app(rig.store, secrets=Secrets()), client=("192.0.2.7", 1))

    async def ask() -> int:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.get("/")).status_code

    assert asyncio.run(ask()) == 403


def test_every_answer_has_the_headers_that_browsers_obey(site: Site) -> None:
    browser = site()

    for path in (
        "/",
        "/nowhere",
        "/static/app.css",
        "/static/nothing",
        "/api",
        "/login",
        "/jobs?where=x:y",
        "/dead?count=x",
    ):
        answer = browser.client.get(path)
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, path
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cache-control"] in ("no-store", "public, max-age=3600")


def test_files_are_those_of_a_table_and_no_path_leads_elsewhere(site: Site) -> None:
    browser = site()

    assert all(browser.client.get(f"/static/{name}").status_code == 200 for name in _STATIC)
    for name in (
        "../application.py",
        "%2e%2e/application.py",
        "..%5capplication.py",
        "%00",
        "app.css%00",
        "",
    ):
        assert browser.client.get(f"/static/{name}").status_code in (400, 404), name


def test_more_than_a_form_has_is_not_read(site: Site) -> None:
    browser = site()
    browser.get("/queues")

    assert browser.post("/bulk", {"where": "x" * 100_000}).status_code == 413
    assert browser.client.get(f"/jobs?where={'x' * 9_000}").status_code in (400, 414)
    assert browser.client.get("/jobs?" + "&".join(f"a{n}=1" for n in range(400))).status_code == 400


def test_under_a_prefix_every_link_stays_there(rig: Rig, site: Site) -> None:
    filled(rig)
    browser = site("/ops/jobs", secrets=WITH)
    browser.client.base_url = httpx.URL(f"{browser.url}/ops/jobs")

    assert browser.client.get("/").headers["location"] == "/ops/jobs/login"
    login = browser.login("correct horse")
    assert login.headers["location"] == "/ops/jobs/"
    page = browser.get("/queues").text
    links = re.findall(r'(?:href|src|action|data-hx-get)="([^"#?]+)', page)
    assert links
    assert [link for link in links if not link.startswith("/ops/jobs")] == []
    assert "; Path=/ops/jobs;" in login.headers["set-cookie"]


@pytest.mark.parametrize(
    "answer", [None, True, "root", {}], ids=["nothing", "yes", "root", "thing"]
)
def test_a_hook_that_answers_something_else_lets_nobody_in(site: Site, answer: Any) -> None:
    browser = site(authorize=lambda request: answer)

    page = browser.client.get("/queues")

    assert page.status_code == 500
    assert "let it answer none, read or admin" in page.text
    assert {name: page.headers.get(name) for name in HEADERS} == HEADERS


def test_a_hook_that_fails_lets_nobody_in(site: Site) -> None:
    def broken(_: object) -> str:
        raise LookupError("S3CR3T-canary")

    page = site(authorize=broken).client.get("/queues")

    assert page.status_code == 500
    assert "S3CR3T-canary" not in page.text
    assert {name: page.headers.get(name) for name in HEADERS} == HEADERS


def test_the_mounting_application_says_who_somebody_is_also_by_a_coroutine(site: Site) -> None:
    async def known(request: object) -> str:
        return "admin" if getattr(request, "headers", {}).get("x-user") == "ada" else "none"

    browser: Browser = site(authorize=known)

    assert browser.client.get("/queues", headers={"X-User": "ada"}).status_code == 200
    assert browser.client.get("/queues").status_code == 403
