"""The judge: decides from the evidence alone, and asks no server.

A run that was cut short (its process died or froze) has ended at the cut: the promise of exclusion is for holders that
beat on time, and what a frozen process does when it thaws is for the guard of its effect.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from reconciler.drill.evidence import NEVER, Cut, Evidence, Fault, Run

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the verdict."""

    what: str
    value: str
    good: bool
    detail: str = ""


def judge(evidence: Evidence) -> list[Finding]:
    """Return every line of the verdict, good and bad."""
    return [
        _lost(evidence),
        *_held(evidence),
        *_given_up(evidence),
        *_effects(evidence),
        _overlaps(evidence),
        _repeats(evidence),
        _rest(evidence),
        *(_fault(each, optional=evidence.optional) for each in evidence.faults),
        *_skipped(evidence),
        _remains(evidence),
        _exits(evidence),
    ]


def sound(findings: Iterable[Finding]) -> bool:
    """Return whether nothing is off."""
    return all(finding.good for finding in findings)


def lost(evidence: Evidence) -> int:
    """Return how many rows were lost: pending, and nobody tells them, nor leaves them out on purpose.

    Of the drill's own service all others that are not done.
    """
    if evidence.effects is not None:
        return evidence.effects.rows - evidence.effects.done - _count(evidence.left.held)
    return len(evidence.left.untold)


def doubled(evidence: Evidence) -> int:
    """Return how many rows had their effect more than once."""
    return len(evidence.effects.doubled) if evidence.effects else 0


def overlapping(runs: Iterable[Run], cuts: Sequence[Cut]) -> list[tuple[Run, Run]]:
    """Return pairs of runs of one key that were under way at the same time."""
    by_key: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.started):
        if run.key:
            by_key[run.key].append(run)
    return [pair for group in by_key.values() for pair in _conflicts(group, cuts)]


def _conflicts(group: Sequence[Run], cuts: Sequence[Cut]) -> Iterator[tuple[Run, Run]]:
    longest, until = group[0], _end_of(group[0], cuts)
    for run in group[1:]:
        if run.started < until:
            yield longest, run
        end = _end_of(run, cuts)
        if end > until:
            longest, until = run, end


def _end_of(run: Run, cuts: Sequence[Cut]) -> float:
    ended = NEVER if run.ended is None else run.ended
    met = [cut.at for cut in cuts if cut.pid == run.pid and run.started <= cut.at < ended]
    return min([ended, *met])


def _lost(evidence: Evidence) -> Finding:
    left, count = evidence.left, lost(evidence)
    rows = evidence.rows
    waiting = len(left.told)
    value = f"{count} of {rows:,} rows" + (
        f"; {waiting} still wait" if waiting and not count else ""
    )
    return Finding("lost", value, count == 0 and rows > 0, _some(left.untold or left.told))


def _held(evidence: Evidence) -> list[Finding]:
    """The drill's own service holds nothing back."""
    held = evidence.left.held
    if not held:
        return []
    shares = ", ".join(f"{len(names)} {why}" for why, names in held.items())
    some = _some([f"{why}: {name}" for why, names in held.items() for name in names[:_SHOWN]])
    value = f"{_count(held)} rows ({shares})"
    return [Finding("held back on purpose, not lost", value, evidence.effects is None, some)]


def _count(held: Mapping[str, Sequence[str]]) -> int:
    return sum(map(len, held.values()))


def _given_up(evidence: Evidence) -> list[Finding]:
    said = evidence.given_up
    return [Finding("ended before all was done", said, good=False)] if said else []


def _effects(evidence: Evidence) -> list[Finding]:
    effects = evidence.effects
    if effects is None:
        return []
    value = f"{len(effects.doubled)}; {effects.withheld} late runs changed nothing"
    return [Finding("doubled", value, not effects.doubled, _some(effects.doubled))]


def _overlaps(evidence: Evidence) -> Finding:
    pairs = overlapping(evidence.runs, evidence.cuts)
    detail = [
        f"{first.key}: processes {first.pid} and {second.pid} at {second.started:.1f} s, "
        f"{second.started - first.started:.2f} s apart"
        for first, second in pairs
    ]
    return Finding("overlaps", str(len(pairs)), not pairs, _some(detail))


def _repeats(evidence: Evidence) -> Finding:
    ended = Counter(run.key for run in evidence.runs if run.key and run.outcome == "ok")
    again = sum(count - 1 for count in ended.values())
    cut = sum(run.ended is None for run in evidence.runs)
    value = f"{len(evidence.runs):,}; {cut} cut short, {again} after one that had ended well"
    return Finding("runs", value, good=bool(evidence.runs))


def rest(evidence: Evidence) -> float:
    """Return the longest time in which nothing started, though jobs were on queues and threads were free."""
    starts = sorted(run.started for run in evidence.runs)
    longest, since = 0.0, None
    for sample in evidence.samples:
        if not sample.ready or sample.running >= evidence.threads:
            since = None
            continue
        since = sample.at if since is None else since
        before = bisect_right(starts, sample.at)
        last = starts[before - 1] if before else 0.0
        longest = max(longest, sample.at - max(since, last))
    return longest


def _rest(evidence: Evidence) -> Finding:
    """An application of one's own may have queues that are paused; a busy machine lets nobody start, and not the drill look."""
    found, moments = rest(evidence), [sample.at for sample in evidence.samples]
    blind = max((after - before for before, after in pairwise(moments)), default=0.0)
    good = evidence.optional or found <= evidence.rest + 2 * blind
    return Finding("longest rest while jobs were ready", f"{found:.1f} s", good)


def _fault(fault: Fault, *, optional: bool) -> Finding:
    if fault.missed:
        return Finding(fault.title, f"not done: {fault.missed}", good=optional)
    value = f"hit {fault.hit} rows, {fault.running} running; whole after {_seconds(fault.took)}"
    good = fault.healed is not None and (fault.hit > 0 or optional)
    return Finding(fault.title, value + (f"; {fault.remark}" if fault.remark else ""), good)


def _skipped(evidence: Evidence) -> list[Finding]:
    met = {fault.kind for fault in evidence.faults}
    names = [str(kind) for kind in evidence.asked if kind not in met]
    return [Finding("faults left out", ", ".join(names), good=False)] if names else []


def _remains(evidence: Evidence) -> Finding:
    """What an application of one's own leaves is its own affair, but a lock without a job never is."""
    there = {name: count for name, count in evidence.left.jobs.items() if count}
    alone = evidence.left.locks - sum(evidence.left.jobs.values())
    text = ", ".join(f"{count} {name}" for name, count in there.items()) or "no jobs"
    good = alone <= 0 and (evidence.effects is None or not there)
    return Finding("left in Redis", f"{text}, {evidence.left.locks} locks", good)


def _exits(evidence: Evidence) -> Finding:
    exits = evidence.left.exits
    wrong = [f"{name} ended with {code}" for name, code in exits.items() if code]
    return Finding(
        "processes that left cleanly",
        f"{len(exits) - len(wrong)} of {len(exits)}",
        not wrong,
        _some(wrong),
    )


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


def _some(items: Sequence[str]) -> str:
    more = len(items) - _SHOWN
    return "; ".join(items[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
