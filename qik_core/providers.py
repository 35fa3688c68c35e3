"""The settings `switches.*`: who, beside SQL, says which kill switches are on. Values only; `reconciler` asks the providers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final
from urllib.parse import urlsplit

from qik_core.errors import SettingsError
from qik_core.urls import mask

PREFIX: Final = "switches."
NUMBERS: Final = frozenset({f"{PREFIX}unleash_refresh"})
_SHORTEST, _LONGEST = 0.1, 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SwitchSettings:
    """Where kill switches come from beside `reconciler disable`. Times are in seconds."""

    file: str | None = None
    """A TOML or JSON file, watched."""
    unleash_url: str | None = None
    """The API of an Unleash server, as in https://unleash.example.com/api."""
    unleash_token: str | None = None
    """A backend token of it. A secret."""
    unleash_app: str = "qik"
    """The name by which this application is known there."""
    unleash_refresh: float = 1.0
    """Between two questions."""
    cache: str | None = None
    """A folder of this user alone for what was known last; None: one below the user's cache folder."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.masked().items())
        return f"SwitchSettings({shown})"

    @property
    def configured(self) -> bool:
        """Whether a provider is named: then what nobody has ever known matters, and `on_unknown` says what it means."""
        return self.file is not None or self.unleash_url is not None

    def masked(self) -> dict[str, Any]:
        """Return every value as it may be printed."""
        shown = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.unleash_url is not None:
            shown["unleash_url"] = mask(self.unleash_url)
        if self.unleash_token is not None:
            shown["unleash_token"] = "***"
        return shown

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what cannot work: the setting, and what is wrong with it."""
        if not _SHORTEST <= self.unleash_refresh <= _LONGEST:
            yield (
                "unleash_refresh",
                f"is {self.unleash_refresh:g}: use {_SHORTEST:g} to {_LONGEST:g} seconds",
            )
        if self.unleash_url is not None and (problem := _url_problem(self.unleash_url)):
            yield "unleash_url", problem


FIELDS: Final = tuple(each.name for each in fields(SwitchSettings))
VARIABLES: Final[Mapping[str, str]] = {
    **{f"QIK_SWITCHES_{name.upper()}": PREFIX + name for name in FIELDS},
    "UNLEASH_URL": f"{PREFIX}unleash_url",
    "UNLEASH_API_TOKEN": f"{PREFIX}unleash_token",
}
"""Variable of the environment → setting."""


def typed(name: str, value: Any) -> Any:
    """Return the value of a setting, by its name with `switches.` before it.

    Raises:
        SettingsError: it is of another type, or empty.
    """
    if name in NUMBERS:
        if type(value) in (int, float):
            return float(value)
        raise SettingsError(f"it is {value!r:.80}: use a number of seconds")
    if not isinstance(value, str):
        raise SettingsError(f"it is a {type(value).__name__}: use a text")
    if not value.strip():
        raise SettingsError("it is empty: leave it out, or give a value")
    return value


def _url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return "not a URL: use https://host/api"
    if parts.scheme not in ("http", "https"):
        return f"the scheme is {parts.scheme!r}: use https:// or http://"
    return None if host else "the host is missing: use https://host/api"
