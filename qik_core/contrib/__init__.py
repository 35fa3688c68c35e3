"""Ties to other libraries, each behind an extra: nothing here is imported by the rest of the package."""

from __future__ import annotations
