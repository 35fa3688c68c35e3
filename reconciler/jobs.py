"""What a reconciler needs to know of its job, read from the job's definition."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

_ANY: Final = Any


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of `perform`."""

    name: str
    annotation: Any
    """`Any` where it says nothing, or names what is not defined yet."""
    required: bool


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job as its reconcilers see it."""

    name: str
    queue: str
    parameters: tuple[Parameter, ...]
    unique: tuple[str, ...]
    """The parameters that make the job unique; all of them unless the job says otherwise."""
    unique_for: int | None
    """Seconds, None for a job that is not unique."""
    unique_until: str

    @property
    def signature(self) -> str:
        """The parameters as an error shows them."""
        return f"perform({', '.join(each.name for each in self.parameters)})"


def facts(job: Any) -> JobFacts | None:
    """Return the facts of a `Job` class or a function with `@job`, None for anything else."""
    definition = getattr(job, "definition", None)
    names = getattr(getattr(definition, "arguments", None), "names", None)
    if definition is None or names is None:
        return None
    window = definition.unique
    return JobFacts(
        name=definition.name,
        queue=definition.queue,
        parameters=_parameters(_perform(job), names),
        unique=definition.arguments.unique,
        unique_for=None if window is None else window.seconds,
        unique_until="" if window is None else window.until,
    )


def _perform(job: Any) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(job, "perform", None) or job.__wrapped__
    return found


def _parameters(perform: Callable[..., Any], names: tuple[str, ...]) -> tuple[Parameter, ...]:
    try:
        hints = typing.get_type_hints(perform)
    except NameError:  # defined further down: the engine looks it up at the first push
        hints = {}
    signature = inspect.signature(perform).parameters
    return tuple(
        Parameter(name, hints.get(name, _ANY), signature[name].default is inspect.Parameter.empty)
        for name in names
    )
