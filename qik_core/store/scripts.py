"""The Lua files, each put together once: the shared functions it includes and itself, with `K.<name>` as the key it stands for.

Plain EVALSHA, with EVAL when the server has not seen the script yet: no FUNCTION, which Redis 6.2 does not know.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from qik_core.store import keys

_INCLUDE = re.compile(r"^-- include:(.*)$", re.MULTILINE)
_KEY = re.compile(r"\bK\.(\w+)")


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text and the hash by which the server knows it."""

    name: str
    text: bytes
    sha: bytes


@cache
def script(name: str) -> Script:
    """Return the script of the file `lua/<name>.lua`."""
    lua = files("qik_core.store") / "lua"
    body = (lua / f"{name}.lua").read_text()
    include = _INCLUDE.search(body)
    shared = include.group(1).split() if include else []
    parts = [*((lua / "lib" / f"{part}.lua").read_text() for part in shared), body]
    # Keys as constants: a table of them would be made with each call, at a tenth of the cost of a push.
    text = _KEY.sub(_literal, "".join(parts)).encode()
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def _literal(found: re.Match[str]) -> str:
    return f'"{keys.IN_LUA[found[1]].decode()}"'
