"""A small document-indexing service: one row per file, one job per row, one reconciler for all of it."""

from __future__ import annotations
