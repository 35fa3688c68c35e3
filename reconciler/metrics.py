"""What a process of reconcilers answers on its port: /metrics, /livez, /readyz and /scale.

Passes are counted here as they end; everything else is asked of SQL and Redis when somebody wants to know.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from time import monotonic
from typing import Any, Final

from sqlalchemy import Engine, func, select

from qik_core import Code
from qik_core.errors import QikError
from qik_core.passes import Passes
from qik_core.probes.families import BOUNDS
from qik_core.probes.listener import Answer, Listener
from qik_core.probes.text import CONTENT_TYPE, Samples, histogram, labels, render
from qik_core.settings import Settings
from reconciler.bookmarks import Bookmarks
from reconciler.definition import Definition
from reconciler.drift import Cause
from reconciler.families import CODES, DRIFT, ERRORS, PASSES, RECONCILERS, RESULTS, SCANNED, TIMES
from reconciler.report import TOLD, Outcome, Report
from reconciler.sql import reading
from reconciler.status import Standing, standings
from reconciler.tables import passes, row_state
from reconciler.watching import Untold, look

log: Final = logging.getLogger("reconciler")

STANDS_STILL: Final = 10.0
"""Seconds after which a process that does not look after its runners is not alive."""
_QUERY: Final = 2.0
_JSON: Final = "application/json"


class Metrics:
    """Counts the passes of this process, and answers a port. `told` and `turned` are for the manager."""

    def __init__(
        self,
        definitions: Sequence[Definition],
        home: Engine,
        seam: Passes,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.holder = ""
        """Who this process is among the holders of leases."""
        self.units: Callable[[], Iterable[str]] = lambda: [
            each.unit for each in definitions if each.shards is None
        ]
        """Returns which units there are now: SQL remembers those too that are gone."""
        self._definitions = definitions
        self._home = home
        self._seam = seam
        self._now = now
        self._turned = now()
        self._lock = Lock()
        self._counted: dict[str, Counter[str]] = {each.name: Counter() for each in PASSES}
        self._times: dict[str, tuple[list[int], float]] = {}

    # --- for the manager ---------------------------------------------------------

    def told(self, report: Report) -> None:
        """Count a pass that has ended."""
        unit = report.reconciler
        by = {"controller": unit}
        with self._lock:
            self._count(RESULTS.name, 1, **by, result=report.outcome)
            self._count(ERRORS.name, report.outcome is Outcome.FAILED, **by)
            self._count(SCANNED.name, report.scanned, **by)
            for code, count in report.codes.items():
                self._count(CODES.name, count, **by, code=code)
            for cause, count in report.details.get("drift", {}).items():
                self._count(DRIFT.name, count, **by, cause=cause)
            counts, seconds = self._times.get(unit, ([0] * (len(BOUNDS) + 1), 0.0))
            counts[sum(bound < report.seconds for bound in BOUNDS)] += 1
            self._times[unit] = counts, seconds + report.seconds

    def turned(self) -> None:
        """The manager has looked after its runners."""
        self._turned = self._now()

    def _count(self, name: str, many: int, **named: str) -> None:
        self._counted[name][labels(**named)] += many

    # --- for the port ------------------------------------------------------------

    def answer(self, path: str) -> Answer:
        """Answer a path."""
        match path:
            case "/livez":
                return self._livez()
            case "/readyz":
                return self._readyz()
            case "/metrics":
                return Answer(200, render(RECONCILERS, self.samples()), CONTENT_TYPE)
            case "/scale":
                return self._scale()
            case _:
                return Answer(404, "there are /metrics, /livez, /readyz and /scale\n")

    def _livez(self) -> Answer:
        stood = self._now() - self._turned
        if stood > STANDS_STILL:
            return Answer(503, f"this process has not looked after its passes for {stood:.0f} s\n")
        return Answer(200, "ok\n")

    def _readyz(self) -> Answer:
        missing = []
        for name, ask in (("SQL", lambda: standings(self._home)), ("Redis", self._seam.look)):
            try:
                ask()
            except QikError as error:
                missing.append(f"{name}: {_one_line(error)}")
        return Answer(503, "\n".join(missing) + "\n") if missing else Answer(200, "ok\n")

    def samples(self) -> Samples:
        """Return everything that is known now; what cannot be asked is left out, and said to be down."""
        samples = self._passes()
        try:
            samples.update(self._sql())
        except QikError as error:
            log.warning("SQL cannot be asked for metrics", extra={"error": _one_line(error)})
            samples["qik_sql_up"] = {"": 0}
        try:
            samples.update(self._seen())
        except QikError as error:
            log.warning("Redis cannot be asked for metrics", extra={"error": _one_line(error)})
            samples["qik_reconciler_redis_up"] = {"": 0}
        return samples

    def _passes(self) -> Samples:
        with self._lock:
            units = sorted({*self.units(), *self._times})
            samples: Samples = {name: dict(_zeros(name, units)) for name in self._counted}
            for name, counted in self._counted.items():
                samples[name].update(counted)
            times = {unit: self._times.get(unit, ([0] * (len(BOUNDS) + 1), 0.0)) for unit in units}
            by_unit = {unit: (list(counts), seconds) for unit, (counts, seconds) in times.items()}
        samples[TIMES.name] = {}
        for unit, (counts, seconds) in by_unit.items():
            samples[TIMES.name].update(histogram(labels(controller=unit), counts, seconds))
        return samples

    def _sql(self) -> Samples:
        units = sorted(self.units())
        every = {each.name: each.every for each in self._definitions}
        samples: Samples = {
            "qik_sql_up": {"": 1},
            "qik_pass_interval_seconds": _by_unit(
                {unit: every[unit.partition("/")[0]] for unit in units}
            ),
            "qik_last_success_timestamp_seconds": _by_unit(self._successes(units)),
            "qik_quarantined_rows": self._quarantined(),
        }
        for one in standings(self._home):
            for name, value in _of(one, self.holder) if one.unit in units else ():
                samples.setdefault(name, {})[labels(controller=one.unit)] = value
        known = look(self._home, Bookmarks(self._home).read(), self._loss())
        for name, about in (("qik_pending_rows", "pending"), ("qik_untold_rows", "untold")):
            counts = {each.unit: getattr(each, about) for each in known if each.unit in units}
            samples[name] = _by_unit({u: count for u, count in counts.items() if count is not None})
        return samples

    def _loss(self) -> str | None:
        try:
            return self._seam.look().loss
        except QikError:
            return None

    def _successes(self, units: Sequence[str]) -> dict[str, float]:
        """Return when the last whole pass of each unit ended. One by one: an index has the newest first, and a week is long."""
        whole = passes.c.outcome == str(Outcome.COMPLETED)
        ended: dict[str, float] = {}
        with reading(self._home, _QUERY) as connection:
            for unit in units:
                name, _, shard = unit.partition("/")
                ours = passes.c.reconciler == name, passes.c.shard == shard, whole
                newest = (
                    select(passes.c.ended_at).where(*ours).order_by(passes.c.id.desc()).limit(1)
                )
                ended[unit] = connection.execute(newest).scalar_one_or_none() or 0.0
        return ended

    def _quarantined(self) -> dict[str, float]:
        query = (
            select(row_state.c.job_class, func.count())
            .where(row_state.c.state == "quarantined")
            .group_by(row_state.c.job_class)
        )
        counts: dict[str, float] = {each.facts.name: 0 for each in self._definitions}
        with reading(self._home, _QUERY) as connection:
            counts.update((name, count) for name, count in connection.execute(query))
        return {labels(class_=name): count for name, count in sorted(counts.items())}

    def _seen(self) -> Samples:
        seen = self._seam.switches_seen()
        version = self._seam.switches().version
        current = sum(each >= version for each in seen.values())
        return {
            "qik_reconciler_redis_up": {"": 1},
            "qik_switches_version": {"": version},
            "qik_switches_processes": {
                labels(current="true"): current,
                labels(current="false"): len(seen) - current,
            },
        }

    # --- autoscalers ---------------------------------------------------------------

    def _scale(self) -> Answer:
        try:
            body = self.scale()
        except QikError as error:
            return Answer(503, json.dumps({"error": _one_line(error)}) + "\n", _JSON)
        return Answer(200, json.dumps(body) + "\n", _JSON)

    def scale(self) -> dict[str, Any]:
        """Return what waits for the queues that reconcilers tell their rows on, rows that nobody has told yet among it.

        Raises:
            QikError: SQL or Redis does not answer.
        """
        told_on = {each.name: each.queue or each.facts.queue for each in self._definitions}
        known = look(self._home, Bookmarks(self._home).read(), self._seam.look().loss)
        untold, unknown = _untold(known, told_on)
        queues: dict[str, dict[str, float]] = {}
        for queue in sorted(set(told_on.values())):
            load = self._seam.pressure(queue)
            queues[queue] = {
                "told": load.depth,
                "untold": untold[queue],
                "backlog": load.depth + untold[queue],
                "latency": load.latency,
            }
        return {
            "backlog": sum(each["backlog"] for each in queues.values()),
            "latency": max((each["latency"] for each in queues.values()), default=0.0),
            "unknown": unknown,
            "queues": queues,
        }


def _by_unit(values: Mapping[str, float]) -> dict[str, float]:
    return {labels(controller=unit): value for unit, value in values.items()}


def _untold(known: Iterable[Untold], told_on: Mapping[str, str]) -> tuple[Counter[str], list[str]]:
    """Return the untold rows by queue, and of which units nobody knows how many they are."""
    counts: Counter[str] = Counter()
    unknown: list[str] = []
    for each in known:
        queue = told_on.get(each.unit.partition("/")[0])
        if queue is not None and each.untold is None:
            unknown.append(each.unit)
        elif queue is not None:
            counts[queue] += each.untold or 0
    return counts, unknown


def _zeros(name: str, units: Iterable[str]) -> Iterable[tuple[str, float]]:
    """Return what a counter shows before anything happens: a rise from nothing would be no rise."""
    values: Mapping[str, tuple[str, Iterable[str]]] = {
        RESULTS.name: ("result", Outcome),
        CODES.name: ("code", (*Code, TOLD)),
        DRIFT.name: ("cause", Cause),
    }
    label, among = values.get(name, ("", ("",)))
    for unit in units:
        for value in among:
            more = {label: value} if label else {}
            yield labels(**{"controller": unit, **more}), 0


def _of(one: Standing, holder: str) -> Iterable[tuple[str, float]]:
    """Yield what SQL knows of one unit."""
    yield "controller_runtime_active_workers", one.running_for is not None
    yield "qik_pass_running_seconds", one.running_for or 0
    yield "qik_lease_held", one.holder is not None
    yield "qik_lease_here", one.holder is not None and one.holder == holder
    yield "qik_lease_term", one.term
    if one.last is None:
        return
    details = one.last.details
    yield "qik_last_pass_age_seconds", one.last.age
    yield "qik_last_pass_seconds", one.last.seconds
    yield "qik_switched_off", bool(details.get("switched_off"))
    if details.get("oldest_pending_age") is not None:
        yield "qik_oldest_pending_age_seconds", details["oldest_pending_age"]
        yield "qik_oldest_untold_age_seconds", details.get("oldest_untold_age") or 0
    if details.get("time_to_whole") is not None:
        yield "qik_time_to_whole_seconds", details["time_to_whole"]


def _one_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def serve(metrics: Metrics, settings: Settings) -> Listener | None:
    """Open the port that the settings name; None if they name none."""
    if settings.metrics_port is None:
        return None
    levels = logging.getLevelNamesMapping()
    listener = Listener(
        (settings.metrics_host, settings.metrics_port),
        metrics.answer,
        lambda level, text: log.log(levels[level], text),
    )
    listener.start()
    return listener
