"""A job engine with Sidekiq's vocabulary, semantics and wire format.

A public name is imported when it is first used, so that each program pays for what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qik_core.lazy import exports

if TYPE_CHECKING:
    from qik_core import api as api
    from qik_core.chain import Chain as Chain
    from qik_core.client import Client as Client
    from qik_core.client import push as push
    from qik_core.commits import Deferred as Deferred
    from qik_core.context import Context as Context
    from qik_core.embedding import EmbeddedWorker as EmbeddedWorker
    from qik_core.errors import ArgumentError as ArgumentError
    from qik_core.errors import Cancelled as Cancelled
    from qik_core.errors import DefinitionError as DefinitionError
    from qik_core.errors import JobTimeout as JobTimeout
    from qik_core.errors import NotEnqueued as NotEnqueued
    from qik_core.errors import OutcomeUnknown as OutcomeUnknown
    from qik_core.errors import QikError as QikError
    from qik_core.errors import SettingsError as SettingsError
    from qik_core.errors import StoreError as StoreError
    from qik_core.hooks import Event as Event
    from qik_core.hooks import on as on
    from qik_core.hooks import on_death as on_death
    from qik_core.hooks import on_error as on_error
    from qik_core.jobs import Job as Job
    from qik_core.jobs import current_context as current_context
    from qik_core.jobs import job as job
    from qik_core.middleware import ClientMiddleware as ClientMiddleware
    from qik_core.middleware import ClientResult as ClientResult
    from qik_core.middleware import Next as Next
    from qik_core.middleware import ServerMiddleware as ServerMiddleware
    from qik_core.options import Options as Options
    from qik_core.outcomes import Discard as Discard
    from qik_core.outcomes import RequeueAfter as RequeueAfter
    from qik_core.outcomes import RetryIn as RetryIn
    from qik_core.outcomes import Terminal as Terminal
    from qik_core.payload import Payload as Payload
    from qik_core.results import Advanced as Advanced
    from qik_core.results import BulkResult as BulkResult
    from qik_core.results import Code as Code
    from qik_core.results import Dirtied as Dirtied
    from qik_core.results import Duplicate as Duplicate
    from qik_core.results import Enqueued as Enqueued
    from qik_core.results import Push as Push
    from qik_core.results import Refused as Refused
    from qik_core.settings import Settings as Settings
    from qik_core.settings import configure as configure

_HOMES = {
    "chain": ("Chain",),
    "commits": ("Deferred",),
    "client": ("Client", "push"),
    "embedding": ("EmbeddedWorker",),
    "errors": (
        "ArgumentError",
        "Cancelled",
        "DefinitionError",
        "JobTimeout",
        "NotEnqueued",
        "OutcomeUnknown",
        "QikError",
        "SettingsError",
        "StoreError",
    ),
    "context": ("Context",),
    "hooks": ("Event", "on", "on_death", "on_error"),
    "jobs": ("Job", "current_context", "job"),
    "middleware": ("ClientMiddleware", "ClientResult", "Next", "ServerMiddleware"),
    "options": ("Options",),
    "outcomes": ("Discard", "RequeueAfter", "RetryIn", "Terminal"),
    "payload": ("Payload",),
    "results": (
        "Advanced",
        "BulkResult",
        "Code",
        "Dirtied",
        "Duplicate",
        "Enqueued",
        "Push",
        "Refused",
    ),
    "settings": ("Settings", "configure"),
}

__getattr__, __dir__ = exports(__name__, _HOMES, ("api",))
