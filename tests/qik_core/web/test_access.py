"""What opens which door, and what a cookie is worth. No server."""

# ruff: noqa: S106  passwords of nobody

from __future__ import annotations

import pytest

from qik_core.errors import SettingsError
from qik_core.web.access import Access, Secrets, Signer, Who, alone, same_origin

WITH = Secrets(password="one-and-all", read_password="just-looking", token="program-1")


@pytest.mark.parametrize(
    ("given", "opens"),
    [("one-and-all", "admin"), ("just-looking", "read"), ("", "none"),
     ("one-and-al", "none"), ("program-1", "none"), ("é\ud800", "none")],
)  # fmt: skip
def test_a_password_opens_its_own_door_and_no_other(given: str, opens: str) -> None:
    assert WITH.of_password(given) == opens
    assert Secrets().of_password(given) is Access.NONE


@pytest.mark.parametrize("name", ["password", "read_password", "token", "read_token"])
@pytest.mark.parametrize("given", ["", "1234567", "a" * 201, "pässword", "line\nline"])
def test_a_secret_that_opens_to_anybody_is_refused_by_its_name(name: str, given: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} ") as raised:
        Secrets(**{name: given})

    assert not given or given not in str(raised.value)


def test_secrets_are_never_printed() -> None:
    assert "one-and-all" not in repr(WITH)
    assert "password=***" in repr(WITH)


def test_the_same_secrets_sign_alike_everywhere_and_others_do_not() -> None:
    assert (
        WITH.key()
        == Secrets(password="one-and-all", read_password="just-looking", token="program-1").key()
    )
    assert WITH.key() != Secrets(password="one-and-all", token="program-1").key()
    assert Secrets().key() != Secrets().key()


def test_a_cookie_holds_until_it_is_over_and_only_whole() -> None:
    signer = Signer(b"k" * 32)
    cookie = signer.cookie(Who(Access.READ), 1000.0)

    session = signer.session(cookie, 1001.0)

    assert session is not None
    assert session.access is Access.READ
    assert signer.session(cookie, 1000.0 + 12 * 3600) is None
    assert signer.session(cookie.replace("read", "admin"), 1001.0) is None
    assert signer.token(session) != Signer(b"x" * 32).token(session)


@pytest.mark.parametrize(
    ("client", "server", "host", "yes"),
    [
        ("127.0.0.1", "127.0.0.1", "localhost:7410", True), ("::1", "::1", "[::1]:7410", True),
        ("192.0.2.1", "127.0.0.1", "localhost", False), ("127.0.0.1", "192.0.2.1", "localhost", False),
        ("127.0.0.1", "127.0.0.1", "localhost.evil.example", False), (None, None, "localhost", False),
        ("127.0.0.1", "127.0.0.1", "[", False), ("127.0.0.1", "127.0.0.1", "", False),
    ],
)  # fmt: skip
def test_this_machine_is_known_by_both_ends_and_the_name(
    client: str | None, server: str | None, host: str, *, yes: bool
) -> None:
    assert alone(client, server, {"host": host}) is yes
    assert not alone(client, server, {"host": host, "x-forwarded-for": "::1"})


@pytest.mark.parametrize(
    "name",
    ["Via", "Forwarded", "X-Real-IP", "x-forwarded-for", "X-Forwarded-Proto", "x-forwarded-server"],
)
def test_a_request_that_a_proxy_says_it_has_passed_on_is_not_of_this_machine(name: str) -> None:
    here = "127.0.0.1"

    assert not alone(here, here, {"host": "localhost", name: ""})
    assert alone(here, here, {"host": "localhost", "x-forward": "a"})


@pytest.mark.parametrize(
    ("headers", "yes"),
    [
        ({"sec-fetch-site": "same-origin"}, True), ({"sec-fetch-site": "same-site"}, False), ({}, False),
        ({"origin": "http://a:1", "host": "a:1"}, True), ({"origin": "http://a:1.evil", "host": "a:1"}, False),
        ({"origin": "null", "host": "null"}, False), ({"origin": "http://[", "host": "["}, False),
    ],
)  # fmt: skip
def test_only_a_page_of_this_site_is_of_this_origin(headers: dict[str, str], *, yes: bool) -> None:
    assert same_origin(headers) is yes
