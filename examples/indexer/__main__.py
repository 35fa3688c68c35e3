"""`python -m examples.indexer demo` and `python -m examples.indexer verify DIR`."""

from __future__ import annotations

import sys

from examples.indexer.commands import main

if __name__ == "__main__":
    sys.exit(main())
