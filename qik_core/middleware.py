"""What an application puts around a push and around a run: one callable shape, the first of a chain outermost.

    def tenant(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        return call_next(job.replace(tenant=current_tenant()))

A client middleware returns what `call_next` returned, for the job or for a changed copy, or `Refused(by, reason)`. A server
middleware calls `call_next(job)` to run the job; not calling it skips the job, which then counts as done (`chain`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from qik_core.errors import NotEnqueued
from qik_core.payload import Payload
from qik_core.results import Refused

R = TypeVar("R")
Next: TypeAlias = Callable[[Payload], R]
Middleware: TypeAlias = Callable[[Payload, Next[R]], R]
ClientResult: TypeAlias = Payload | Refused
ClientMiddleware: TypeAlias = Middleware[ClientResult]
ServerMiddleware: TypeAlias = Middleware[None]


def client_chain(chain: Sequence[ClientMiddleware]) -> Next[ClientResult]:
    """Return the client chain as one step, with each middleware held to its contract.

    The step raises NotEnqueued, naming the middleware, when one raises, returns something else than a job or a
    refusal, or returns a job without having called `call_next` exactly once: the middleware inside it (a kill
    switch, say) would have been passed over, or run twice.
    """
    step: Next[ClientResult] = _unchanged
    for middleware in reversed(chain):
        step = partial(_held, middleware, step)
    return step


def name_of(middleware: Callable[..., Any]) -> str:
    """Return how errors and refusals name a middleware."""
    own = getattr(middleware, "__qualname__", None) or type(middleware).__qualname__
    return f"{getattr(middleware, '__module__', '?')}.{own}"


def _unchanged(job: Payload) -> ClientResult:
    return job


def _held(middleware: ClientMiddleware, inner: Next[ClientResult], job: Payload) -> ClientResult:
    calls = 0

    def call_next(job: Payload) -> ClientResult:
        nonlocal calls
        calls += 1
        if not isinstance(job, Payload):
            raise NotEnqueued(
                f"call_next was given a {type(job).__name__}: give it the job, or job.replace(…)"
            )
        return inner(job)

    who = f"client middleware {name_of(middleware)}"
    try:
        result = middleware(job, call_next)
    except NotEnqueued:
        raise
    except Exception as error:
        raise NotEnqueued(
            f"{who} raised {type(error).__name__}, nothing was written: {_text(error)}"
        ) from error
    _judge(result, calls, who)
    return result


def _judge(result: object, calls: int, who: str) -> None:
    if isinstance(result, Refused):
        return
    if not isinstance(result, Payload):
        raise NotEnqueued(
            f"{who} returned {type(result).__name__}: return call_next(job), or Refused(by, reason)"
        )
    if calls != 1:
        raise NotEnqueued(
            f"{who} called call_next {calls} times: call it once, or return Refused(by, reason)"
        )


def _text(error: Exception) -> str:
    try:
        return f"{error!s:.200}"
    except Exception:  # noqa: BLE001 - the error is the application's own class
        return "its message cannot be read"
