"""A dashboard that is served for real, on a port of its own, and a client that goes to it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import redis
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.waiting import eventually


@contextmanager
def served(app: Any, *, path: str = "") -> Iterator[str]:
    """Serve an application inside, mounted below a path; gives its address."""
    app = Starlette(routes=[Mount(path, app)]) if path else app
    config = uvicorn.Config(app, port=0, log_level="error", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


class Browser:
    """What a person's browser sends: cookies, Sec-Fetch-Site, the token of the last page."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=10, trust_env=False)
        self.token = ""

    def get(self, path: str, **rest: Any) -> httpx.Response:
        response = self.client.get(path, **rest)
        mark = 'name="csrf" value="'
        if mark in response.text:
            self.token = response.text.split(mark, 1)[1].split('"', 1)[0]
        return response

    def post(self, path: str, form: Any = None, **headers: str) -> httpx.Response:
        sent = {"Sec-Fetch-Site": "same-origin", **headers}
        return self.client.post(path, data={"csrf": self.token, **(form or {})}, headers=sent)

    @property
    def cookie(self) -> tuple[str, str]:
        """The name and the value of the session's cookie."""
        (found,) = self.client.cookies.items()
        return found

    def login(self, password: str) -> httpx.Response:
        self.get("/login")
        return self.post("/login", {"password": password})

    def close(self) -> None:
        self.client.close()


def digest_of(raw: redis.Redis) -> dict[bytes, str]:
    """Every key, and a digest of what it holds and until when."""
    found = {}
    for key in raw.scan_iter(count=1000):
        held: Any = raw.dump(key)
        found[key] = hashlib.sha256(held).hexdigest() + str(raw.pexpiretime(key))
    return found
