"""The other side of the peers: what each needs to push and run the same jobs, as its own documentation has it.

Each module runs in an environment of its own, made from the file of requirements beside it, and has

    one(job, value)      push one job, which is noop, stamp or warm; plain or async
    many(values)         push noops in one call, where there is such a call
    session()            what must be open meanwhile, for asynchronous ones
"""

from __future__ import annotations
