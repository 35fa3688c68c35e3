"""`python -m qik_core.cli`."""

from __future__ import annotations

from qik_core.cli import main

main(prog_name="qik")
