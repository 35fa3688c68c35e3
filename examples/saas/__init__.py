"""A small service as teams write them: FastAPI in front, jobs behind, a reconciler for each job. README.md shows it."""

from __future__ import annotations
