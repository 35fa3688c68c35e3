"""Every metric of a worker: its name, its kind, what it says. Names of Kubernetes' controllers where they have one.

docs/reference/metrics.md has the same list; a test compares. Standard library only.
"""

from __future__ import annotations

from typing import Final, NamedTuple

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"

BOUNDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
)  # fmt: skip
"""Upper bounds of the buckets of every histogram, seconds."""


class Family(NamedTuple):
    """One metric."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


PARENT: Final = (
    Family("qik_worker_processes", GAUGE, "Worker processes of this parent, by state.", ("state",)),
    Family(
        "qik_worker_deaths_total", COUNTER, "Worker processes that ended and were not asked to."
    ),
)
"""What a parent knows by itself."""

WORKER: Final = (
    Family("qik_jobs_total", COUNTER, "Runs of jobs, by class and by how they ended.", ("class", "end")),
    Family("qik_job_duration_seconds", HISTOGRAM, "How long runs took, by class.", ("class",)),
    Family(
        "workqueue_queue_duration_seconds",
        HISTOGRAM,
        "How long jobs waited on their queue until they were fetched.",
        ("name",),
    ),
    Family(
        "workqueue_unfinished_work_seconds",
        GAUGE,
        "How long the runs under way have taken so far, together, by queue.",
        ("name",),
    ),
    Family(
        "workqueue_longest_running_processor_seconds",
        GAUGE,
        "How long the longest run under way has taken so far, by queue.",
        ("name",),
    ),
    Family("qik_pushes_total", COUNTER, "Jobs pushed by this process, by what became of them.", ("code",)),
    Family("qik_threads", GAUGE, "Job threads."),
    Family("qik_threads_busy", GAUGE, "Job threads that run a job."),
)  # fmt: skip
"""What children count; a parent adds theirs up."""

REDIS: Final = (
    Family("qik_redis_up", GAUGE, "1 if Redis answered this scrape."),
    Family("workqueue_depth", GAUGE, "Jobs on a queue.", ("name",)),
    Family(
        "qik_queue_latency_seconds",
        GAUGE,
        "How long the job that is fetched next has waited.",
        ("name",),
    ),
    Family("qik_queue_paused", GAUGE, "1 for a queue that is paused.", ("name",)),
    Family(
        "qik_queue_later",
        GAUGE,
        "Jobs of passes that wait for their time, for the queues that this worker serves.",
        ("name",),
    ),
    Family("qik_scheduled_jobs", GAUGE, "Jobs that wait for their time."),
    Family("qik_retry_jobs", GAUGE, "Jobs that failed and wait for their next run."),
    Family("qik_dead_jobs", GAUGE, "Jobs that failed for good."),
    Family("qik_held_jobs", GAUGE, "Jobs held because their class is switched off.", ("class",)),
    Family("qik_processes", GAUGE, "Worker processes that beat into this Redis."),
    Family("qik_runs_total", COUNTER, "Runs of all workers on this Redis, as it counts them."),
    Family("qik_failures_total", COUNTER, "Failed runs of all workers on this Redis."),
    Family("qik_redis_memory_ratio", GAUGE, "Used memory over maxmemory; 0 without a limit."),
)
"""What Redis says at the time of the scrape. Every worker says the same: take the maximum, not the sum."""

WORKERS: Final = (*PARENT, *WORKER, *REDIS)
