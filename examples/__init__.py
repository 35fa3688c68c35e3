"""Folders that run, each tested."""

from __future__ import annotations
