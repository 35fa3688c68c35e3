"""A pass over many pending rows."""

from __future__ import annotations
