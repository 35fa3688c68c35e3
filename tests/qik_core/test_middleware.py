from __future__ import annotations

from typing import Any

import pytest

from qik_core.errors import NotEnqueued
from qik_core.middleware import ClientResult, Next, client_chain
from qik_core.payload import Payload
from qik_core.results import Refused

JOB = Payload({"class": "Charge", "args": [7], "jid": "a", "queue": "default"})


def test_a_client_chain_returns_the_changed_job() -> None:
    def outer(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        return call_next(job.replace(outer=1))

    def inner(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        return call_next(job.replace(inner=job["outer"] + 1))

    result = client_chain([outer, inner])(JOB)

    assert isinstance(result, Payload)
    assert (result["outer"], result["inner"]) == (1, 2)


def test_a_refusal_ends_the_chain() -> None:
    reached: list[Payload] = []

    def refuse(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        return Refused("quota", "too many")

    def never(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        reached.append(job)
        return call_next(job)

    assert client_chain([refuse, never])(JOB) == Refused("quota", "too many")
    assert reached == []


def raises(job: Payload, call_next: Any) -> Any:
    raise LookupError("no tenant")


def raises_what_cannot_be_read(job: Payload, call_next: Any) -> Any:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    raise Hostile


def returns_none(job: Payload, call_next: Any) -> Any:
    call_next(job)


def returns_a_dict(job: Payload, call_next: Any) -> Any:
    return dict(call_next(job).fields)


def never_calls_next(job: Payload, call_next: Any) -> Any:
    return job


def calls_next_twice(job: Payload, call_next: Any) -> Any:
    call_next(job)
    return call_next(job)


def gives_next_a_dict(job: Payload, call_next: Any) -> Any:
    return call_next({"class": "Charge"})


def yields(job: Payload, call_next: Any) -> Any:
    yield call_next(job)


MISBEHAVING = [
    (raises, "raised LookupError, nothing was written: no tenant"),
    (raises_what_cannot_be_read, "its message cannot be read"),
    (returns_none, "returned NoneType: return call_next"),
    (returns_a_dict, "returned dict"),
    (never_calls_next, "called call_next 0 times"),
    (calls_next_twice, "called call_next 2 times"),
    (gives_next_a_dict, "was given a dict"),
    (yields, "returned generator"),
]


@pytest.mark.parametrize(
    ("middleware", "text"), MISBEHAVING, ids=[each.__name__ for each, _ in MISBEHAVING]
)
def test_a_client_middleware_that_misbehaves_is_named(middleware: Any, text: str) -> None:
    def around(job: Payload, call_next: Next[ClientResult]) -> ClientResult:
        return call_next(job)

    with pytest.raises(NotEnqueued) as caught:
        client_chain([around, middleware])(JOB)

    assert text in str(caught.value)
    if middleware is not gives_next_a_dict:
        assert f"{__name__}.{middleware.__name__}" in str(caught.value)
    assert str(caught.value).count("client middleware") <= 1


def test_an_interrupt_passes_through() -> None:
    def interrupted(job: Payload, call_next: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client_chain([interrupted])(JOB)


def test_an_object_that_can_be_called_is_a_middleware() -> None:
    class Tenant:
        def __call__(self, job: Payload, call_next: Next[ClientResult]) -> ClientResult:
            return None  # type: ignore[return-value]

    with pytest.raises(NotEnqueued, match=r"Tenant returned NoneType"):
        client_chain([Tenant()])(JOB)
