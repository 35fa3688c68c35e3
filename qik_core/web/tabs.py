"""The seam by which another package adds pages: a tab, with what it shows and what it does.

The pages of a tab stand behind the same gate as ours: who may see them, who may change something, tokens, headers, bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from qik_core.web.asked import Ask, View

Show = Callable[[Ask], View]


@dataclass(frozen=True, slots=True)
class TabPage:
    """One page: what GET shows, and what POST does."""

    path: str
    """Below the dashboard, as in `/reconcilers` or `/reconcilers/{queue}`; parameters are those of `asked.PARAMS`."""
    told: str
    """What it is, in one line, for the OpenAPI document."""
    show: Show | None = None
    """Must change nothing."""
    act: Show | None = None
    params: Sequence[str] = ()
    fields: Sequence[str] = ()
    """Of its form, for the OpenAPI document."""


class Tone(StrEnum):
    """How a card looks."""

    PLAIN = ""
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Card:
    """One thing that the overview says."""

    name: str
    value: str
    """In words or numbers, for people."""
    path: str = ""
    """Of the page that says more, below the dashboard; empty: none does."""
    tone: Tone = Tone.PLAIN


class Tab(Protocol):
    """Pages that another package adds."""

    @property
    def name(self) -> str:
        """Its name in the row of tabs; the first page is where it leads."""

    @property
    def pages(self) -> Sequence[TabPage]:
        """Its pages."""

    @property
    def templates(self) -> Path | None:
        """A folder of Jinja templates, which may extend our `base.html`; None: it uses ours."""


@runtime_checkable
class CardTab(Tab, Protocol):
    """A tab that also says something on the overview."""

    def cards(self, ask: Ask) -> Sequence[Card]:
        """Return its cards. Changes nothing.

        Every open overview asks for them every 2 seconds, and waits: they must be cheap, and come within 0.7 s also where
        somebody does not answer. An error is shown as a card of its own.
        """
