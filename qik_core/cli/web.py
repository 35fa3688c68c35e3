"""`qik web`: the dashboard, served."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from qik_core import application
from qik_core.cli import base
from qik_core.cli.group import UNSAFE
from qik_core.settings import Settings

_OPTIONS: Final = (
    click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen."),
    click.option("--port", type=click.IntRange(0, 65_535), default=7410, show_default=True),
    click.option(
        "--fd",
        type=click.IntRange(0),
        metavar="N",
        help="Serve on this open socket instead, as systemd and `qik dev` pass it.",
    ),
    click.option("--read-only", is_flag=True, help="Nobody may change anything."),
)


def listening(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that serves a dashboard; `serve` takes what they say."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@base.app
@listening
@base.redis_url
def web(app: str | None, redis_url: str | None, **rest: Any) -> None:
    """Serve the dashboard.

    On this machine it asks for nothing. To be reached from elsewhere it needs QIK_WEB_PASSWORD, or QIK_WEB_TOKEN for
    programs. With APP, the module that defines jobs, arguments are masked by the names of their parameters too.
    """
    serve(base.load_settings(app=app, redis_url=redis_url), tuple, **rest)


def serve(
    settings: Settings,
    tabs: Callable[[], Sequence[Any]],
    *,
    host: str,
    port: int,
    fd: int | None,
    read_only: bool,
) -> None:
    """Serve the dashboard until a signal. `tabs` gives those of other packages, when the application has been imported."""
    uvicorn, dashboard = _modules()
    from qik_core.web.access import is_loopback

    passed = None if fd is None else _passed(fd)
    host = host if passed is None else passed.getsockname()[0]
    secrets = dashboard.of_settings()
    if not secrets.configured and not is_loopback(host):
        click.echo(
            f"the dashboard: {host} can be reached from elsewhere, and there is no password: set QIK_WEB_PASSWORD, or "
            "QIK_WEB_TOKEN for programs, or listen on 127.0.0.1",
            err=True,
        )
        sys.exit(UNSAFE)
    if settings.app is not None:
        application.load(settings.app)
    listener = passed or _listen(host, port)
    shown, port = f"[{host}]" if ":" in host else host, listener.getsockname()[1]
    click.echo(f"the dashboard: http://{shown}:{port}/")
    config = uvicorn.Config(
        dashboard.app(secrets=secrets, read_only=read_only, tabs=tabs()),
        ws="none",
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise click.UsageError(
            f"{host}:{port} cannot be listened on: {error}; try another --port"
        ) from None


def _passed(fd: int) -> socket.socket:
    try:
        found = socket.socket(fileno=fd)
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise click.UsageError(f"--fd {fd} is no open socket: {error}") from None
    if not listens or found.family not in (socket.AF_INET, socket.AF_INET6):
        raise click.UsageError(f"--fd {fd} is no socket that listens on an address and a port")
    return found


def _modules() -> tuple[Any, Any]:
    """Return uvicorn and the dashboard's module, which an extra brings."""
    try:
        import uvicorn

        from qik_core.web import application as dashboard
    except ImportError as error:
        raise click.UsageError(
            f"the dashboard needs the extra web: pip install 'qik-core[web]' ({error})"
        ) from None
    return uvicorn, dashboard
