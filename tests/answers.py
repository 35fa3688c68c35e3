"""What the dashboard answers when somebody has done something, or something is wrong: opened in a browser, one by one.

Each begins at a page of `tests/gallery.py`, and presses its own buttons; together they work off what is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.chromium import Tab
from tests.waiting import eventually

_PRESS: Final = """(([button, values]) => {
  const pressed = document.querySelector(button), form = pressed.form;
  form.noValidate = true;
  for (const [name, value] of Object.entries(values)) {
    const field = form.querySelector(`[name=${name}]`);
    field.checked = true;
    if (value !== true) field.value = value;
  }
  form.requestSubmit(pressed);
})"""
_THERE: Final = "document.readyState === 'complete'"


@dataclass(frozen=True, slots=True)
class Press:
    """A button, by its selector, and what is filled in before: name → text, or True for a tick."""

    button: str
    values: Mapping[str, str | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: the page it begins at, what is pressed on one page after another, what it says at last."""

    name: str
    path: str
    says: str
    presses: Sequence[Press] = ()

    def open(self, tab: Tab, url: str) -> None:
        """Get this answer, as a person does."""
        tab.open(url + self.path)
        for press in self.presses:
            _press(tab, press)
        eventually(lambda: self.says in tab.text() and tab.run(_THERE), None, self.name)


def _press(tab: Tab, press: Press) -> None:
    tab.run(f"window.before = true; {_PRESS}({json.dumps([press.button, press.values])})")
    eventually(lambda: tab.run(f"!window.before && {_THERE}"), None, str(press))


_DELETE: Final = 'form[action$="/jobs"] [value=delete]'
_DELETE_ALL: Final = 'form[action$="/bulk"] [value=delete]'
_STOP_ALL: Final = Press("form.bar [value=stop]")
_SURE: Final = Press("[name=sure]")
_WHY: Final = {"reason": "the bank refuses these two"}
_SURE_WHY: Final = Press("[name=sure]", _WHY)
_PLAN: Final = Press("[value=plan]", {"queue": "default"})
_OFF: Final = {"switch": "SyncInvoice", **_WHY}
_MEANT: Final = {"word": "default", **_WHY}

ANSWERS: Final = (
    Answer(
        "wrong-password",
        "/locked/login",
        "not the password",
        [Press("main button", {"password": "a"})],
    ),
    Answer("done", "/dead", "1 deleted", [Press(_DELETE, {"job": True})]),
    Answer("moved", "/dead", "had moved", [Press(_DELETE, {"job": f"{'0' * 16}@1.0 gone"})]),
    Answer("none-chosen", "/dead", "no job was chosen", [Press(_DELETE)]),
    Answer("other-session", "/dead", "from another session", [Press(_DELETE, {"csrf": "old"})]),
    Answer("too-large", "/dead", "than 65,536", [Press(_DELETE_ALL, {"where": "x" * 70_000})]),
    Answer("too-long-field", "/dead", "up to 2,000", [Press(_DELETE_ALL, {"where": "x" * 3_000})]),
    Answer("too-long", f"/dead?where={'x' * 9_000}", "longer than 8,192"),
    Answer("bad-filter", "/jobs?where=clas:Charge", "clas"),
    Answer("sure", "/dead", "Yes, delete", [Press(_DELETE_ALL)]),
    Answer("bulk", "/dead?where=class:SyncInvoice", "deleted", [Press(_DELETE_ALL), _SURE]),
    Answer("paused", "/queues/billing", "is paused", [Press("[value=pause]")]),
    Answer("cancelled", "/busy", "removed: it was", [Press('form[action$="/cancel"] button')]),
    Answer("sure-of-all", "/busy", "all 2 processes", [_STOP_ALL]),
    Answer("all-asked", "/busy", "at their next beat", [_STOP_ALL, _SURE]),
    Answer("redis-away", "/away/dead", "Redis does not answer"),
    Answer("sql-away", "/away/incident", "SQL"),
    Answer(
        "unknown-switch",
        "/switches",
        "Nobody",
        [Press("[value=disable]", {**_OFF, "switch": "Nobody"})],
    ),
    Answer(
        "bad-span", "/switches", "soon", [Press("[value=disable]", {**_OFF, "expires": "soon"})]
    ),
    Answer("switched", "/switches", "Back to the switches", [Press("[value=disable]", _OFF)]),
    Answer("enabled", "/switches", "Back to the switches", [Press("[value=enable]", _OFF)]),
    Answer("sure-of-row", "/quarantine?class=SyncInvoice", "Release row", [Press("td button")]),
    Answer("no-reason", "/quarantine?class=SyncInvoice", "no reason", [Press("td button"), _SURE]),
    Answer("row", "/quarantine?class=SyncInvoice", "1 row is", [Press("td button"), _SURE_WHY]),
    Answer(
        "rows", "/quarantine?class=SyncInvoice", "released", [Press("form.bar button"), _SURE_WHY]
    ),
    Answer("pass", "/reconcilers/OpenInvoices", "Back", [Press("[value=run]")]),
    Answer("sure-of-rebuild", "/incident/rebuild", "Yes", [Press("[value=rebuild]", _WHY)]),
    Answer(
        "rebuilding", "/incident/rebuild", "goes on, since", [Press("[value=rebuild]", _WHY), _SURE]
    ),
    Answer("no-jobs-meant", "/incident/flush", "which jobs", [Press("[value=plan]")]),
    Answer("planned", "/incident/flush", "What a flush of", [_PLAN]),
    Answer(
        "would-lose", "/incident/flush", "nothing brings", [_PLAN, Press("[value=flush]", _MEANT)]
    ),
    Answer(
        "flushed",
        "/incident/flush",
        " took ",
        [_PLAN, Press("[value=flush]", {**_MEANT, "lose": True})],
    ),
)
"""In this order: what comes first is there for what comes later."""


def answers(tab: Tab, url: str) -> Iterator[Answer]:
    """Open one after another; yields each while it is open."""
    # The session of the whole site would go before that of the login, which is below it.
    tab.send("Network.clearBrowserCookies")
    for each in ANSWERS:
        each.open(tab, url)
        yield each
