"""`qik completion`."""

from __future__ import annotations

from qik_core.cli import group

completion = group.completion("qik")
