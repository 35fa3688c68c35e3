"""A capsule: job threads with queues of their own inside a process; and the capsules of a process, taken in turn.

All of them share one courier, so that a process has one identity and one exchange under way. Each exchange carries the
outcomes of all and fetches for one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from qik_core import tallies
from qik_core.crew import Crew
from qik_core.ends import unique_of
from qik_core.pace import Pace
from qik_core.store.exchange import Fetched, Outcome
from qik_core.store.link import Arg
from qik_core.store.push import MOST

LOOK: Final = 0.8
"""Seconds after which queues without jobs are looked at again: pushes of Ruby wake nobody."""


class Capsule:
    """Some job threads, and the queues that they serve."""

    def __init__(
        self,
        name: str,
        crew: Crew,
        order: Callable[[], list[str]],
        weights: Mapping[str, int],
        mode: str = "strict",
    ) -> None:
        """Take the parts; `order` gives the queues for one fetch, `weights` has all of them, `mode` is the order's name."""
        self.name = name
        self.crew = crew
        self.order = order
        self.weights = dict(weights)
        self.mode = mode
        self.pace = Pace(crew)
        self.dry = False
        """The last fetch found less than it asked for."""
        self.asked = 0.0
        """When that was, monotonic."""

    def want(self) -> int:
        """Return how many jobs to ask for."""
        return min(self.pace.want(), MOST)

    def thirsty(self, now: float) -> bool:
        """Whether asking is worth an exchange of its own."""
        return not self.dry or now - self.asked >= LOOK

    def fill(self, jobs: Sequence[Fetched]) -> None:
        """Give jobs to the threads."""
        if tallies.current is not None:
            tallies.current.fetched(jobs)
        self.pace.filled()
        self.crew.add(jobs)


@dataclass(frozen=True, slots=True)
class Sent:
    """An exchange that has not been answered: the outcomes of all capsules, and jobs for one."""

    sequence: int
    outcomes: Sequence[Outcome]
    capsule: Capsule
    want: int
    call: Sequence[Arg]
    suspects: bool = False
    """It asks for a job under which a process has died."""


class Capsules:
    """The capsules of one process. The first one is `default`."""

    def __init__(self, capsules: Sequence[Capsule]) -> None:
        self._all = tuple(capsules)
        self._next = 0
        self.done: deque[Outcome] = deque()
        """What the threads of all have finished."""
        for each in self._all:
            each.crew.done = self.done

    def __iter__(self) -> Iterator[Capsule]:
        return iter(self._all)

    @property
    def queues(self) -> list[str]:
        """Every queue that some capsule serves, once."""
        return list(dict.fromkeys(name for each in self._all for name in each.weights))

    @property
    def size(self) -> int:
        """How many job threads there are."""
        return sum(each.crew.size for each in self._all)

    @property
    def idle(self) -> int:
        """How many of them run nothing."""
        return sum(each.crew.idle for each in self._all)

    @property
    def waiting(self) -> bool:
        """Whether any pocket has a job that no thread has started."""
        return any(each.crew.pocket for each in self._all)

    def running(self) -> list[Fetched]:
        """Return the jobs that run now."""
        return [job for each in self._all for job in each.crew.running()]

    def running_since(self) -> list[tuple[Fetched, float]]:
        """Return the jobs that run now, and when each began, monotonic."""
        return [pair for each in self._all for pair in each.crew.running_since()]

    def start(self) -> None:
        """Start the job threads, named after their capsules."""
        for each in self._all:
            each.crew.start("job" if each is self._all[0] else f"{each.name}-job")

    def stop(self) -> None:
        """End the job threads that run nothing; the others when their jobs end."""
        for each in self._all:
            each.crew.stop()

    def choose(self, now: float) -> tuple[Capsule, int]:
        """Return for which capsule to fetch next and how many jobs: in turn, and first those that ask is worth it for."""
        if len(self._all) == 1:
            return self._all[0], self._all[0].want()
        chosen, most = self._all[0], 0
        for step in range(len(self._all)):
            each = self._all[(self._next + step) % len(self._all)]
            want = each.want()
            if want and each.thirsty(now):
                return each, want
            if want and not most:
                chosen, most = each, want
        return chosen, most

    def served(self, capsule: Capsule) -> None:
        """An exchange has fetched for this one: next are the others."""
        self._next = self._all.index(capsule) + 1

    def serving(self, queue: str) -> Capsule:
        """Return a capsule that serves this queue."""
        return next((each for each in self._all if queue in each.weights), self._all[0])

    def looked(self, at: float) -> None:
        """The epoch was looked at: threads may start what waits."""
        for each in self._all:
            each.crew.looked_at = at
            if each.crew.pocket:
                each.crew.call(len(each.crew.pocket))

    def hear(self, *, wanted: bool) -> None:
        """Let threads ring, or not, when a job has ended."""
        for each in self._all:
            each.crew.wants_to_hear = wanted

    def look(self) -> None:
        """Something was pushed: no queue is known to be empty any more."""
        for each in self._all:
            each.dry = False

    def cancel(self, fields: Collection[bytes]) -> None:
        """Ask the runs of these jobs to stop at their next checkpoint."""
        for each in self._all:
            each.crew.cancel(fields)

    def cancel_jobs(self, jids: Collection[str]) -> None:
        """The same for the runs of these jobs, which somebody cancelled."""
        if jids:
            running = self.running()
            self.cancel({job.field for job in running if unique_of(job)[1] in jids})

    def sort(self, startable: Callable[[Sequence[Fetched]], Sequence[Fetched]]) -> None:
        """Leave only those jobs in the pockets that may start."""
        for each in self._all:
            waiting = each.crew.empty_pocket()[::-1]
            each.crew.pocket.extendleft(reversed(startable(waiting)))
            each.crew.call(len(each.crew.pocket))

    def empty_pockets(self, *, stuck_only: bool = False) -> list[Fetched]:
        """Take back every job that no thread has started; or only where none was started for 100 ms."""
        return [
            job
            for each in self._all
            if not stuck_only or each.pace.stuck()
            for job in each.crew.empty_pocket()
        ]

    def next_look(self, now: float) -> float:
        """Return in how many seconds a capsule that sleeps over queues without jobs looks again."""
        asked = [each.asked for each in self._all if each.dry and each.want()]
        return max(min(asked) + LOOK - now, 0.0) if asked else LOOK
