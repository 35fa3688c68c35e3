"""What a process says of itself over HTTP: metrics as text, and whether it lives. Standard library only: a parent loads it.

`families` has every metric of a worker, `text` writes them as Prometheus reads them, `listener` serves, `gather` is the parent's
side of the lines to its children.
"""

from __future__ import annotations
