"""URLs of servers as settings name them: what is wrong with one, and how it prints without its secrets."""

from __future__ import annotations

from urllib.parse import urlsplit


def mask(url: str) -> str:
    """Return a URL without its password, also where it is given as a parameter."""
    try:
        parts = urlsplit(url)
        user, secret = parts.username or "", parts.password is not None
    except ValueError:
        return "***"
    if secret:
        host = parts.netloc.rpartition("@")[2]
        url = url.replace(parts.netloc, f"{user}:***@{host}", 1)
    query = "&".join(_mask_parameter(each) for each in parts.query.split("&"))
    return url.replace(f"?{parts.query}", f"?{query}", 1) if parts.query else url


def redis_problem(url: str) -> str | None:
    """Return what is wrong with the URL of a Redis; None: nothing."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "not a URL: use redis://host:6379/0"
    if parts.scheme not in ("redis", "rediss", "unix"):
        return f"the scheme is {parts.scheme!r}: use redis://, rediss:// or unix://"
    if parts.scheme == "unix":
        return (
            None
            if parts.path not in ("", "/")
            else "the path of the socket is missing: use unix:///run/redis.sock"
        )
    if not parts.hostname:
        return "the host is missing: use redis://host:6379/0"
    number = parts.path.strip("/")
    if number and not (number.isascii() and number.isdigit()):
        return f"the database is {number!r}: use a number, as in redis://host:6379/0"
    return "the port is 0" if port == 0 else None


def database_problem(value: object) -> str | None:
    """Return what is wrong with a URL of a database; None: nothing, as with an object of the application."""
    if isinstance(value, str) and "://" not in value:
        return "not a URL: use one as postgresql+psycopg://user@host/name or sqlite:///file.db"
    return None


def _mask_parameter(text: str) -> str:
    name, equals, _ = text.partition("=")
    secret = any(word in name.lower() for word in ("pass", "secret", "token", "key"))
    return f"{name}=***" if equals and secret else text
