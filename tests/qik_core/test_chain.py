from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from qik_core import hooks
from qik_core.chain import Chain, server_chain
from qik_core.errors import DefinitionError, SettingsError
from qik_core.middleware import ServerMiddleware
from qik_core.payload import Payload
from qik_core.settings import Settings, configure, use

JOB = Payload({"class": "Charge", "args": [7], "jid": "a", "queue": "default"})


@pytest.fixture
def reported() -> Iterator[list[tuple[BaseException, Mapping[str, Any]]]]:
    errors: list[tuple[BaseException, Mapping[str, Any]]] = []
    hooks.on_error(lambda error, context: errors.append((error, context)))
    yield errors
    hooks.clear()


class Named:
    """Equal by name, as two configurations of one middleware may be."""

    def __init__(self, name: str, version: int = 1) -> None:
        self.name = name
        self.version = version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __call__(self, job: Payload, call_next: Any) -> None:
        call_next(job)


def chain(*names: str) -> Chain[Named]:
    return Chain([Named(name) for name in names])


def shown(chain: Chain[Named]) -> str:
    return "".join(each.name for each in chain)


# --- the chain as a list -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "order"),
    [
        (lambda it: it.add(Named("d")), "abcd"),
        (lambda it: it.add(Named("a")), "bca"),
        (lambda it: it.prepend(Named("d")), "dabc"),
        (lambda it: it.prepend(Named("c")), "cab"),
        (lambda it: it.insert_before(Named("b"), Named("d")), "adbc"),
        (lambda it: it.insert_before(Named("a"), Named("c")), "cab"),
        (lambda it: it.insert_before(Named("c"), Named("a")), "bac"),
        (lambda it: it.insert_before(Named("x"), Named("d")), "dabc"),
        (lambda it: it.insert_before(Named("b"), Named("b")), "abc"),
        (lambda it: it.insert_after(Named("b"), Named("d")), "abdc"),
        (lambda it: it.insert_after(Named("c"), Named("a")), "bca"),
        (lambda it: it.insert_after(Named("x"), Named("d")), "abcd"),
        (lambda it: it.insert_after(Named("x"), Named("a")), "bca"),
        (lambda it: it.insert_after(Named("b"), Named("b")), "abc"),
        (lambda it: it.remove(Named("b")), "ac"),
        (lambda it: it.remove(Named("x")), "abc"),
        (lambda it: it.clear(), ""),
        (lambda it: it.clear().add(Named("y")).prepend(Named("z")), "zy"),
    ],
    ids=range(18),
)
def test_a_chain_is_changed_as_sidekiqs_is(change: Any, order: str) -> None:
    given = chain("a", "b", "c")

    assert change(given) is given
    assert shown(given) == order


def test_an_entry_equal_to_a_new_one_is_replaced_by_it() -> None:
    given = chain("a", "b").add(Named("a", version=2))

    assert [(each.name, each.version) for each in given] == [("b", 1), ("a", 2)]


def test_a_chain_knows_what_is_in_it_and_in_which_order() -> None:
    given = chain("a", "b")

    assert given.exists(Named("a"))
    assert Named("b") in given
    assert not given.exists(Named("c"))
    assert given.names() == [f"{__name__}.Named"] * 2
    assert (len(given), given[1].name, [each.name for each in given[:1]]) == (2, "b", ["a"])


async def asynchronous(job: Payload, call_next: Any) -> None:
    call_next(job)


def yields(job: Payload, call_next: Any) -> Iterator[None]:
    yield call_next(job)


class AsynchronousCall:
    async def __call__(self, job: Payload, call_next: Any) -> None:
        call_next(job)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (None, "NoneType is no middleware"),
        ("tenant", "str is no middleware"),
        (asynchronous, "asynchronous is async or yields"),
        (yields, "yields is async or yields"),
        (AsynchronousCall(), "AsynchronousCall is async or yields"),
    ],
    ids=["none", "text", "async", "yields", "async call"],
)
def test_what_can_be_no_middleware_is_refused_where_it_is_added(wrong: Any, text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        Chain([wrong])
    for name in ("client_middleware", "server_middleware"):
        with pytest.raises(SettingsError, match=f"{name} .*{text}"):
            configure(**{name: [wrong]})


def test_configure_takes_a_chain_and_keeps_what_was_in_it_then() -> None:
    given: Chain[ServerMiddleware] = Chain([Named("a")])
    use(Settings())
    try:
        made = configure(server_middleware=given)
        given.add(Named("b"))
    finally:
        use(None)

    assert made.server_middleware == (Named("a"),)


# --- around a run --------------------------------------------------------------------------------


def passes_on(job: Payload, call_next: Any) -> None:
    call_next(job)


def skips(job: Payload, call_next: Any) -> None: ...


def twice(job: Payload, call_next: Any) -> None:
    call_next(job)
    call_next(job)


def raises(job: Payload, call_next: Any) -> None:
    raise LookupError("no tenant")


def interrupts(job: Payload, call_next: Any) -> None:
    raise KeyboardInterrupt


def raises_after(job: Payload, call_next: Any) -> None:
    call_next(job)
    raise LookupError("no tenant")


def returns_garbage(job: Payload, call_next: Any) -> Any:
    call_next(job)
    return object()


def gives_a_dict(job: Payload, call_next: Any) -> None:
    call_next({"class": "Charge"})


def test_the_first_of_a_server_chain_is_outermost_and_sees_the_end_of_the_run() -> None:
    seen: list[str] = []

    def marking(name: str) -> ServerMiddleware:
        def middleware(job: Payload, call_next: Any) -> None:
            seen.append(f"{name} before")
            call_next(job.replace(**{name: True}))
            seen.append(f"{name} after")

        return middleware

    step = server_chain(
        [marking("a"), marking("b")], lambda job: seen.append(f"run {job['a']} {job['b']}")
    )

    assert step(JOB) is None
    assert seen == ["a before", "b before", "run True True", "b after", "a after"]
    assert "a" not in JOB.fields


def test_a_middleware_that_does_not_go_on_skips_the_job_and_is_named() -> None:
    runs: list[Payload] = []

    assert server_chain([passes_on, skips, passes_on], runs.append)(JOB) == f"{__name__}.skips"
    assert server_chain([skips, passes_on], runs.append)(JOB) == f"{__name__}.skips"
    assert runs == []


def test_a_second_call_of_call_next_runs_nothing_and_is_reported(
    reported: list[tuple[BaseException, Mapping[str, Any]]],
) -> None:
    runs: list[Payload] = []

    assert server_chain([passes_on, twice, passes_on], runs.append)(JOB) is None

    assert runs == [JOB]
    [(error, context)] = reported
    assert f"{__name__}.twice called call_next twice: the job ran once" in str(error)
    assert context == {"jid": "a", "job": "Charge"}


def test_a_second_call_after_a_failure_does_not_run_the_job_again(
    reported: list[tuple[BaseException, Mapping[str, Any]]],
) -> None:
    runs: list[Payload] = []

    def retries(job: Payload, call_next: Any) -> None:
        try:
            call_next(job)
        except LookupError:
            call_next(job)

    def fails(job: Payload) -> None:
        runs.append(job)
        raise LookupError

    server_chain([retries], fails)(JOB)

    assert len(runs) == len(reported) == 1


@pytest.mark.parametrize(
    ("middleware", "error", "ran"),
    [
        (raises, LookupError, 0),
        (interrupts, KeyboardInterrupt, 0),
        (raises_after, LookupError, 1),
        (gives_a_dict, DefinitionError, 0),
        (functools.partial(asynchronous), DefinitionError, 0),
        (functools.partial(yields), DefinitionError, 0),
    ],
    ids=["raises", "interrupts", "raises after", "gives a dict", "async", "yields"],
)
def test_what_a_middleware_raises_fails_the_job_also_what_never_ran_its_body(
    middleware: Any, error: type[BaseException], ran: int
) -> None:
    runs: list[Payload] = []

    with pytest.raises(error):
        server_chain([passes_on, middleware, passes_on], runs.append)(JOB)

    assert len(runs) == ran


def test_what_a_middleware_returns_is_ignored() -> None:
    runs: list[Payload] = []

    assert server_chain([returns_garbage], runs.append)(JOB) is None
    assert runs == [JOB]
