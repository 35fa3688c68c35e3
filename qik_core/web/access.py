"""Who may see and change things: passwords, bearer tokens, signed cookies, and whether a request came from our own page.

Pure: no request, no clock. Everything secret is compared in constant time. Without any secret and without a hook of the
application only this machine is served, and no proxy that adds a header of proxies; one that adds none cannot be told from
the people at this machine: set a password before any proxy is put in front.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from qik_core.errors import SettingsError

SESSION_SECONDS: Final = 12 * 3600
COOKIE: Final = "qik_web"
LONGEST_NAME: Final = 60
"""Characters of somebody's name."""
_LONGEST_COOKIE: Final = 800
_SECRET: Final = re.compile(r"[ -~]{8,200}")
_OF_PROXIES: Final = ("forwarded", "via", "x-real-ip")


class Access(StrEnum):
    """What somebody may do."""

    NONE = "none"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Who:
    """What somebody may do, and how logs and the audit call them."""

    access: Access
    name: str = ""
    """As `shown_name` lets it be shown; empty: nobody said."""


def shown_name(text: str) -> str:
    """Return a name as a line of a log, a page and a terminal may show it: not long, and nothing hidden in it."""
    name = text.strip()[:LONGEST_NAME]
    return "".join(each if each.isprintable() else "?" for each in name)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Secrets:
    """What people and programs show to be let in. None of them: there is no such door.

    Raises:
        SettingsError: one is not 8 to 200 characters of ASCII; it says which.
    """

    password: str | None = None
    """Of people who may change things."""
    read_password: str | None = None
    token: str | None = None
    """Of programs that may change things: `Authorization: Bearer …`."""
    read_token: str | None = None

    def __post_init__(self) -> None:
        # An empty one would open to whoever shows nothing.
        for each in fields(self):
            given = getattr(self, each.name)
            if given is not None and not (isinstance(given, str) and _SECRET.fullmatch(given)):
                raise SettingsError(f"{each.name} must be 8 to 200 characters of ASCII; or None")

    def __repr__(self) -> str:
        given = [each.name for each in fields(self) if getattr(self, each.name) is not None]
        return f"Secrets({', '.join(f'{name}=***' for name in given)})"

    @property
    def login(self) -> bool:
        """Whether there is a password."""
        return self.password is not None or self.read_password is not None

    @property
    def configured(self) -> bool:
        """Whether anything is asked for."""
        return self.login or self.token is not None or self.read_token is not None

    def of_password(self, given: str) -> Access:
        """Return what this password opens."""
        return _opened(given, self.password, self.read_password)

    def of_token(self, given: str) -> Access:
        """Return what this token opens."""
        return _opened(given, self.token, self.read_token)

    def key(self) -> bytes:
        """Return the key by which cookies are signed: the same in all processes with these secrets, another with others.

        It is slow on purpose, so that a cookie does not help to guess a password.
        """
        if not self.configured:
            return os.urandom(32)
        text = "\0".join(getattr(self, each.name) or "" for each in fields(self))
        return hashlib.scrypt(text.encode(), salt=b"qik web", n=2**14, r=8, p=1, dklen=32)


@dataclass(frozen=True, slots=True)
class Session:
    """What a cookie says."""

    access: Access
    expires_at: int
    nonce: str
    name: str = ""
    """Who they said they are."""


class Signer:
    """Cookies that only we can write, and the tokens of forms."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def cookie(self, who: Who, now: float) -> str:
        """Return the cookie of a new session."""
        name = who.name.encode().hex()
        text = f"{who.access}.{int(now) + SESSION_SECONDS}.{os.urandom(16).hex()}.{name}"
        return f"{text}.{self._sign(text)}"

    def session(self, cookie: str, now: float) -> Session | None:
        """Return what a cookie says; None if we did not write it, or it is over."""
        text, _, signed = cookie[:_LONGEST_COOKIE].rpartition(".")
        if not hmac.compare_digest(signed.encode(), self._sign(text).encode()):
            return None
        access, expires_at, nonce, *name = text.split(".")
        if int(expires_at) <= now:
            return None
        # A cookie of the release before this one has no name.
        return Session(
            Access(access), int(expires_at), nonce, bytes.fromhex("".join(name)).decode()
        )

    def token(self, session: Session) -> str:
        """Return the token that the forms of this session carry."""
        return self._sign(f"form:{session.nonce}")

    def _sign(self, text: str) -> str:
        made = hmac.digest(self._key, text.encode("utf-8", "replace"), "sha256")
        return base64.urlsafe_b64encode(made).decode().rstrip("=")


def alone(client: str | None, server: str | None, headers: Mapping[str, str]) -> bool:
    """Whether a request comes from this very machine: both ends, the name that was asked for, and no proxy that says so.

    A proxy on this machine that adds no header of its own, as `proxy_pass` of nginx alone, cannot be told from its people.
    """
    if any(_is_of_proxy(name.lower()) for name in headers):
        return False
    return is_loopback(client) and is_loopback(server) and is_loopback(_host(headers))


def is_loopback(host: str | None) -> bool:
    """Whether this name or address is this machine's own."""
    if not host:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a page of this very site sent it; an old browser by its `Origin`."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin", "")
    try:
        return origin != "null" and bool(origin) and urlsplit(origin).netloc == headers.get("host")
    except ValueError:
        return False


def bearer(headers: Mapping[str, str]) -> str | None:
    """Return the bearer token of a request, None without one."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip()[:500] if kind.lower() == "bearer" else None


def _is_of_proxy(name: str) -> bool:
    return name in _OF_PROXIES or name.startswith("x-forwarded")


def _host(headers: Mapping[str, str]) -> str | None:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        return None


def _opened(given: str, admin: str | None, read: str | None) -> Access:
    text = given.encode("utf-8", "replace")
    is_admin = admin is not None and hmac.compare_digest(text, admin.encode())
    is_reader = read is not None and hmac.compare_digest(text, read.encode())
    if is_admin:
        return Access.ADMIN
    return Access.READ if is_reader else Access.NONE
