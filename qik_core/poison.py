"""A job that kills its process: who is to blame, and when it has had enough chances. Pure.

When a process dies, every job that it was running may have done it. The first time all of them go back to their queues:
most deaths are nobody's fault among them, and ten long jobs must not run one after another for it. A job under which a
second process dies becomes a suspect: it runs alone from then on, so that a third death names the culprit and its
neighbours go free.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from qik_core.errors import MalformedPayload
from qik_core.payload import Payload
from qik_core.retry import DEATHS, deaths_of, is_condemned
from qik_core.store.exchange import Fetched
from qik_core.store.recovery import Home

_IN_COMPANY: Final = 2


def judge(job: Fetched, started: Collection[bytes]) -> tuple[Home, bytes]:
    """Return where a job of a dead process goes, and as which bytes (empty: as it is).

    `started` are the fields of the jobs that it was running. Beyond the second, a death counts only when the job was
    running alone. A job that has used up its chances goes back to its queue: the process that fetches it buries it without
    a run, so that death handlers and its lock are dealt with as for any other.
    """
    if job.field not in started:
        return Home.QUEUE, b""
    try:
        payload = Payload.decode(job.raw)
    except MalformedPayload:
        return Home.QUEUE, b""
    deaths = deaths_of(payload)
    if deaths < _IN_COMPANY or len(started) == 1:
        deaths += 1
    suspected = deaths >= _IN_COMPANY and not is_condemned(deaths)
    after = payload.replace(**{DEATHS: deaths}).encode()
    return Home.SUSPECTS if suspected else Home.QUEUE, after
