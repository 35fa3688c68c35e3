"""Return the jobs of a process that has ended: `python -m qik_core.recover IDENTITY --started F1,F2 [--clean]`.

The parent runs this at once when a child has ended, so that nobody waits for a lease. It can be killed and run again at
any moment: each job moves in one script.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from typing import Final

from qik_core import logs, poison
from qik_core.errors import QikError
from qik_core.settings import Settings
from qik_core.store import recovery
from qik_core.store.link import Link
from qik_core.store.store import Candidate

log: Final = logging.getLogger("qik_core.worker")


def main(arguments: list[str] | None = None) -> int:
    """Fence and recover; returns 0, or 1 when Redis did not let us and the parent should try again."""
    parser = argparse.ArgumentParser(prog="qik_core.recover", description=__doc__)
    parser.add_argument("identity", help="the process that has ended, as in qik:working:<identity>")
    parser.add_argument("--started", default="", help="fields of the jobs that it was running")
    parser.add_argument(
        "--clean", action="store_true", help="it ended by itself: no job is to blame"
    )
    given = parser.parse_args(arguments)
    settings = Settings.from_json(json.dumps(json.loads(os.environ["QIK_CHILD"])["settings"]))
    logs.set_up("INFO", settings.log_format)
    link = Link(settings.redis)
    started = given.started.encode().split(b",") if given.started else []
    blamed = frozenset() if given.clean else frozenset(started)
    try:
        recovery.fence(link, given.identity, recovery.SURE)
        count = recovery.recover(
            link, given.identity, Candidate(), home=lambda job: poison.judge(job, blamed)
        )
    except QikError as error:
        log.error("jobs are not back yet", extra={"identity": given.identity, "error": str(error)})  # noqa: TRY400 - no trace
        return 1
    if count:
        found = {"identity": given.identity, "count": count, "running": given.started or "-"}
        log.log(logging.INFO if given.clean else logging.WARNING, "jobs are back", extra=found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
