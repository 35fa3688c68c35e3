"""The service's two databases: `default` has customers and their money, `infra` has what is built for them."""

from __future__ import annotations

import os
from functools import cache
from typing import Final

from sqlalchemy import create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from examples.saas.models import Base, InfraBase

DEFAULT: Final = "default"
INFRA: Final = "infra"
_VARIABLES: Final = {DEFAULT: "DATABASE_URL", INFRA: "DATABASE_URL_INFRA"}


@cache
def async_engine(name: str) -> AsyncEngine:
    """Return this process's engine for its event loop.

    Raises:
        KeyError: DATABASE_URL, or DATABASE_URL_INFRA, is not set.
    """
    url = make_url(os.environ[_VARIABLES[name]])
    if url.get_backend_name() == "sqlite":
        aside = url.set(drivername="sqlite+aiosqlite")
        return create_async_engine(aside, connect_args={"timeout": 30})
    return create_async_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 5})


def create_tables() -> None:
    """Make the tables that are not there yet. A service that lives on has migrations instead."""
    for name, base in ((DEFAULT, Base), (INFRA, InfraBase)):
        engine = create_engine(os.environ[_VARIABLES[name]])
        base.metadata.create_all(engine)
        engine.dispose()
