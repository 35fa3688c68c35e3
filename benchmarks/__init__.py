"""Ours beside the raw server and beside Sidekiq, in one run: `python -m benchmarks`."""

from __future__ import annotations
