"""The seam for tracers: what surrounds a call that pushes, a run, and a pass. `contrib` fills it.

`installed` is looked at where a span could begin: while it is empty, no function of this file is called. What a tracer
raises is reported, and hinders nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Final, Generic, Protocol, TypeVar

from qik_core import hooks
from qik_core.definition import Definition
from qik_core.payload import Payload, Template
from qik_core.results import Code

S = TypeVar("S")
_OURS: Final = frozenset({"qik", "jid", "queue", "class", "args", "created_at", "enqueued_at"})


class Answered(Protocol):
    """What became of the items of a call, in their order; what is on its way is counted as refused."""

    codes: list[Code]
    jids: list[bytes]


@dataclass(frozen=True, slots=True)
class PassEnd:
    """How a pass ended."""

    outcome: str
    failed: bool
    reason: str = ""
    error: Exception | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    """`scanned`, `pages`, and how many rows had each code."""


class RunSpan(Protocol):
    """What is told of a run, while it is under way."""

    def failed(self, error: BaseException, then: str) -> object:
        """Take the error; `then` is `retry in 17.3 s`, `dead`, `dropped` or `discarded`."""

    def ended(self, how: str) -> object:
        """Take how it ended, in a word: done, retry, dead, discarded, skipped, cancelled and so on."""


class Tracer(Protocol):
    """What surrounds pushes, runs and passes. Called by any thread; each context is left by the thread that entered it."""

    def fields(self) -> Mapping[str, Any]:
        """Return what the jobs that are pushed now carry; JSON values."""

    def pushing(
        self, job: str, queue: str, *, bulk: bool
    ) -> AbstractContextManager[Callable[[Answered], object]]:
        """Surround one call that pushes; what it yields is told the answers."""

    def running(self, job: Payload, queue: str, attempt: int) -> AbstractContextManager[RunSpan]:
        """Surround one run, with its retries and its end."""

    def passing(
        self, reconciler: str, queues: Sequence[str]
    ) -> AbstractContextManager[Callable[[PassEnd], object]]:
        """Surround one pass; what it yields is told its end."""

    def flush(self) -> object:
        """Send what is held back, within a second: the process is about to end."""


installed: tuple[Tracer, ...] = ()


def install(tracer: Tracer) -> None:
    """Surround what begins from now on; the first one installed is the outermost. Twice is once."""
    global installed  # noqa: PLW0603 - the seam
    if tracer not in installed:
        installed = (*installed, tracer)
    hooks.on(hooks.Event.EXIT)(flush)


def remove(tracer: Tracer) -> None:
    """Take it out, where it is in; what is under way is still told to it."""
    global installed  # noqa: PLW0603 - the seam
    installed = tuple(each for each in installed if each is not tracer)


def flush() -> None:
    """Let every tracer send what it holds back, before this process ends."""
    for tracer in installed:
        _guarded(tracer.flush)


class _Spans(Generic[S]):
    """The spans of all tracers around one thing, entered in order and left in reverse."""

    def __init__(self, begin: Callable[[Tracer], AbstractContextManager[S]]) -> None:
        self.said: list[S] = []
        """What they yielded."""
        self._entered: list[AbstractContextManager[S]] = []
        for tracer in installed:
            try:
                span = begin(tracer)
                self.said.append(span.__enter__())
                self._entered.append(span)
            except Exception as error:  # noqa: BLE001 - a tracer's; it is reported
                hooks.defect("tracer", error)

    def __enter__(self) -> list[S]:
        return self.said

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for span in reversed(self._entered):
            try:
                span.__exit__(kind, error, trace)
            except BaseException as raised:  # noqa: BLE001 - as above; its end hides no other
                if raised is not error:
                    hooks.defect("tracer", raised)


class Runs:
    """What all tracers are told of one run."""

    def __init__(self, spans: Sequence[RunSpan]) -> None:
        self._spans = spans

    def failed(self, error: BaseException, then: str) -> None:
        """Tell that it failed, and what becomes of the job."""
        for span in self._spans:
            _guarded(span.failed, error, then)

    def ended(self, how: str) -> None:
        """Tell how it ended."""
        for span in self._spans:
            _guarded(span.ended, how)


@contextmanager
def running(job: Payload, queue: str, attempt: int) -> Iterator[Runs]:
    """Surround one run."""
    with _Spans(lambda tracer: tracer.running(job, queue, attempt)) as spans:
        yield Runs(spans)


@contextmanager
def pushing(
    definition: Definition, answers: Answered, *, bulk: bool = False
) -> Iterator[Definition]:
    """Surround one call that pushes; yields the definition with the fields that its jobs carry."""
    name, queue = definition.name, definition.queue
    with _Spans(lambda tracer: tracer.pushing(name, queue, bulk=bulk)) as spans:
        yield marked(definition)
        for span in spans:
            _guarded(span, answers)


@contextmanager
def passing(reconciler: str, queues: Sequence[str]) -> Iterator[Callable[[PassEnd], None]]:
    """Surround one pass; what it yields takes its end."""
    with _Spans(lambda tracer: tracer.passing(reconciler, queues)) as spans:

        def ended(end: PassEnd) -> None:
            for span in spans:
                _guarded(span, end)

        yield ended


def marked(definition: Definition) -> Definition:
    """Return the definition with the fields that jobs carry which are pushed now. They replace none of its own."""
    fields: dict[str, Any] = {}
    for tracer in installed:
        try:
            fields.update(tracer.fields())
        except Exception as error:  # noqa: BLE001 - a tracer's; it is reported
            hooks.defect("tracer", error)
    free = {name: fields[name] for name in fields.keys() - _OURS}
    if not free:
        return definition
    try:
        template = Template(definition.queue, {**free, **definition.fields})
    except Exception as error:  # noqa: BLE001 - fields that are no JSON; it is reported, and the jobs go without
        hooks.defect("tracer", error)
        return definition
    return replace(definition, template=template)


def _guarded(tell: Callable[..., object], *said: object) -> None:
    try:
        tell(*said)
    except BaseException as error:  # noqa: BLE001 - a tracer's, or that of an error which cannot be printed
        hooks.defect("tracer", error)
