"""The only package that speaks Redis. What must not be half done is one Lua file in `lua/`."""

from __future__ import annotations

from qik_core.store.epoch import Epoch
from qik_core.store.push import MOST, Chunk, Origin, Pushed
from qik_core.store.store import Sending, Store

__all__ = ["MOST", "Chunk", "Epoch", "Origin", "Pushed", "Sending", "Store"]
