"""`reconciler web`: the dashboard with the tabs of reconcilers, served."""

from __future__ import annotations

from typing import Any

import click

from qik_core.cli.web import listening, serve
from reconciler.cli import base


@click.command()
@base.app
@listening
@base.database_url
@base.redis_url
def web(app: str | None, database_url: str | None, redis_url: str | None, **rest: Any) -> None:
    """Serve the dashboard, with the pages of reconcilers.

    It is `qik web` with more tabs, and opens to others by the same settings. With APP, the module that defines reconcilers,
    pages show what these declare, and can run a pass.
    """
    settings = base.load_settings(app=app, database_url=database_url, redis_url=redis_url)
    serve(settings, _tabs, **rest)


def _tabs() -> Any:
    from reconciler.web import tabs

    return tabs()
