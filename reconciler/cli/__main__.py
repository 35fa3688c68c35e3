"""`python -m reconciler.cli`."""

from __future__ import annotations

from reconciler.cli import main

main(prog_name="reconciler")
