"""What must be true after every step, whoever moved and whatever was lost: the promises, as checks of one step.

The checks do not follow the engine: they look at everything before a command and after it, and ask what may explain the
difference. A loss (a flush, a deletion by hand) explains much, for the keys that it touched, until a roll or a drain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from qik_core.store import keys
from qik_core.store.exchange import Done, Kind, Outcome
from tests.machine.process import Process, Run
from tests.machine.snapshot import Copy, Lock, Snapshot
from tests.machine.wire import Step

_ENDS: Final = (Kind.GONE,)
_FRESH: Final = 2.0  # seconds: what started so shortly after a loss may not have known of it


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(slots=True)
class Key:
    """What has happened to one unique key since it was last at rest."""

    losses: int = 0
    """Each lets one more copy in, until the first drain."""
    windows: int = 0
    """Edges that came when the lock was past its window: Sidekiq lets each of them in."""
    shaken: int = 0
    """Step of the last loss that no roll has repaired yet, 0 for none."""
    pending: bool = False
    """Its row wants a run that ends well."""
    need: bool = False
    """An edge came, and no run has started since."""


class Oracle:
    """Watches every step. `processes` are all that have memory, also frozen ones."""

    def __init__(self, processes: Callable[[], Iterable[Process]]) -> None:
        self._processes = processes
        self.broken = False
        self.steps = 0
        self.runs = 0
        self.keys: dict[str, Key] = {}
        self.accepted: dict[str, int] = {}
        self.ended: Counter[str] = Counter()
        self.last_loss = float("-inf")
        self._forgot = 0
        self._rolling = 0
        self._uncounted: set[bytes] = set()

    def key(self, digest: str) -> Key:
        """Return what is known of a key."""
        return self.keys.setdefault(digest, Key())

    def watch(self, step: Step) -> None:
        """Check one step; raises Violation."""
        self.steps += 1
        self._note_losses(step)
        before, after = step.before.of_jid(), step.after.of_jid()
        for jid in before.keys() - after.keys():
            self._vanished(step, jid, before[jid])
        for jid in after.keys() - before.keys():
            self._appeared(step, jid, after[jid])
        for jid, copies in after.items():
            if len(copies) > 1 and self._forgot <= self.accepted.get(jid, 0):
                self._wrong(step, f"{jid} is in {[copy.place for copy in copies]}")
        if step.name == "push" and step.names[0] not in step.before.names:
            self._told(step)
        self._check_epoch(step)
        self._check_owners(step)
        self._note_roll(step)
        self._check_locks(step)
        self._check_copies(step)
        self._check_needs(step)
        self._check_counts(step)
        self._rest(step.after)

    # --- where a job is ----------------------------------------------------------

    def _vanished(self, step: Step, jid: str, copies: list[Copy]) -> None:
        if step.actor == "operator":
            return
        copy = copies[0]
        if step.name == "exchange" and self._outcomes(step).get(jid, Kind.BACK) in (None, *_ENDS):
            self.ended[jid] += 1
            return
        if step.name in ("exchange", "giveback") and self._was_superseded(step, copy):
            self.ended[jid] += 1
            return
        self._wrong(step, f"{jid} was in {copy.place}, and is nowhere")

    def _was_superseded(self, step: Step, copy: Copy) -> bool:
        counted = int(step.reply[3 if step.name == "exchange" else 4]) > 0
        stands = any(other.digest == copy.digest for other in step.after.copies if other.unfinished)
        return counted and bool(copy.digest) and (stands or bool(self.key(copy.digest).shaken))

    def _appeared(self, step: Step, jid: str, copies: list[Copy]) -> None:
        if step.name == "push":
            known = self.accepted.setdefault(jid, self.steps)
            if known != self.steps and self._forgot <= known:
                self._wrong(step, f"{jid} was accepted before, and is there a second time")
            return
        process = self._process(step.actor)
        held = process.courier.held.values() if process else ()
        if step.name == "assert" and any(jid.encode() in job.raw for job in held):
            return
        self._wrong(step, f"{jid} is in {copies[0].place}, and nobody put it there")

    def _check_copies(self, step: Step) -> None:
        for digest, copies in step.after.of_key().items():
            key, count = self.key(digest), sum(copy.exclusive for copy in copies)
            if count > 1 + key.windows + key.losses:
                self._wrong(step, f"{count} copies of one key: {copies}, after {key}")

    def _check_needs(self, step: Step) -> None:
        copies = step.after.of_key()
        for digest, key in self.keys.items():
            if key.need and not key.losses and digest not in copies:
                self._wrong(
                    step, f"an edge came, no run has started since, and no job is left: {key}"
                )

    def _check_counts(self, step: Step) -> None:
        for name in step.after.lengths.keys() | step.after.counted.keys():
            length, counted = step.after.lengths.get(name, 0), step.after.counted.get(name, 0)
            if name != keys.DEAD and name not in self._uncounted and length != counted:
                self._wrong(step, f"{name!r} holds {length} of our jobs, and {counted} are counted")

    # --- locks ---------------------------------------------------------------------

    def _check_locks(self, step: Step) -> None:
        copies = step.after.of_key()
        for digest, lock in step.after.locks.items():
            if self.key(digest).shaken:
                continue
            if not any(copy.jid == lock.jid for copy in copies.get(digest, ())):
                self._wrong(step, f"no job stands behind {lock}")
        for digest, found in copies.items():
            key = self.key(digest)
            if digest in step.after.locks or key.losses or key.windows:
                continue  # of two copies, the first one to end takes the lock with it
            if any(copy.exclusive for copy in found):
                self._wrong(step, f"no lock stands before {found}")

    def _check_owners(self, step: Step) -> None:
        if step.actor == "operator" or not same_life(step):
            return
        for digest, lock in step.before.locks.items():
            now = step.after.locks.get(digest)
            if now is None:
                self._removed(step, digest, lock)
            elif lock.state == "r" and (now.state, now.jid, now.tail) != ("r", lock.jid, lock.tail):
                if not self._is_holder(step, lock):
                    self._wrong(step, f"{lock} was another's, and is {now}")
            elif lock.state != "r" and step.name == "push" and now.jid != lock.jid:
                self._replaced(step, digest, lock)

    def _removed(self, step: Step, digest: str, lock: Lock) -> None:
        if step.name == "roll_end":
            stands = step.after.of_key().get(digest, ())
            if any(copy.jid == lock.jid for copy in stands):
                self._wrong(step, f"{lock} went with the roll, and its job is there: {stands}")
            return
        released = step.name == "exchange" and lock.jid in self._outcomes(step)
        fetched = step.name == "exchange" and not self._is_exclusive(step.before, digest)
        if not fetched and not (released and self._is_holder(step, lock)):
            self._wrong(step, f"{lock} was released, and not by its owner")

    def _replaced(self, step: Step, digest: str, lock: Lock) -> None:
        if lock.expiry > step.time or str(step.args[1]).startswith("p"):
            self._wrong(step, f"{lock} was valid, and a push took it")
        self.key(digest).windows += 1

    def _is_holder(self, step: Step, lock: Lock) -> bool:
        identity = step.names[0].split(b":", 2)[2].decode() if step.names else ""
        return lock.state == "r" and lock.tail.encode() == keys.holder(identity)

    @staticmethod
    def _is_exclusive(state: Snapshot, digest: str) -> bool:
        return all(copy.exclusive for copy in state.of_key().get(digest, ()))

    # --- losses and repairs ----------------------------------------------------------

    def _note_losses(self, step: Step) -> None:
        if step.actor != "operator":
            return
        gone = set(step.before.names) - set(step.after.names)
        copies, locks = step.before.copies, step.before.locks
        touched = {copy.digest for copy in copies if copy.place.encode() in gone}
        for name in gone:  # a fence was in it, perhaps
            recovering = name.decode().replace("working", "recovering", 1)
            touched |= {copy.digest for copy in copies if copy.place == recovering}
        if any(name == keys.EPOCH or name.startswith(keys.UNIQUE) for name in gone):
            touched |= self.keys.keys() | locks.keys() | {copy.digest for copy in copies}
            self.last_loss = step.time
            self._rolling = 0
        if any(name.startswith(keys.WORKING_PREFIX) for name in gone):
            self.last_loss = step.time
        if any(name.startswith((b"qik:sent:", keys.WORKING_PREFIX)) for name in gone):
            self._forgot = self.steps
        for name in gone:
            self._uncounted.add(name.removeprefix(keys.counted(b"")))
        for digest in touched - {""}:
            key = self.key(digest)
            key.losses += 1
            key.shaken, key.need = self.steps, False

    def _check_epoch(self, step: Step) -> None:
        if step.actor == "operator" or same_life(step) or step.before.epoch is None:
            return
        if step.before.epoch.generation in step.after.generations and not self._hash_was_gone(step):
            self._wrong(step, f"a new epoch, and nothing was lost: {step.before.epoch}")

    @staticmethod
    def _hash_was_gone(step: Step) -> bool:
        epoch = step.before.epoch
        assert epoch is not None
        needed = {epoch.generation, epoch.previous or epoch.generation}
        return any(b"#" not in step.before.generations.get(name, {}) for name in needed)

    def _note_roll(self, step: Step) -> None:
        before, after = step.before.epoch, step.after.epoch
        if before is None or after is None or before.loss != after.loss:
            return
        if before.previous is None and after.previous is not None:
            self._rolling = self.steps
        if before.previous is not None and after.previous is None:
            for key in self.keys.values():
                if key.shaken < self._rolling:
                    key.shaken = 0

    def _rest(self, state: Snapshot) -> None:
        """Forget what happened to keys of which nothing is left anywhere."""
        busy = {copy.digest for copy in state.copies if copy.unfinished} | state.locks.keys()
        for digest, key in self.keys.items():
            touched = key.losses or key.windows or key.shaken
            if touched and digest not in busy and not self._is_remembered(digest):
                key.losses = key.windows = key.shaken = 0
                key.need = False  # an edge that met the lock of a job that was deleted: no promise

    def _is_remembered(self, digest: str) -> bool:
        if any(process.exchanging is not None for process in self._processes()):
            return True  # the answer that is on its way may bring a job back
        mark = digest.encode()
        held = (job for process in self._processes() for job in process.courier.held.values())
        return any(mark in job.raw for job in held)

    def _told(self, step: Step) -> None:
        """Every code of a push says that a job for the key exists: its row waits for a run, an edge for one yet to start."""
        digests, edge = _text(step.args[5]), str(step.args[1]).startswith("e")
        for at in range(0, len(digests), 22):
            key = self.key(digests[at : at + 22])
            key.pending, key.need = True, key.need or edge

    # --- runs ------------------------------------------------------------------------

    def started(self, process: Process, run: Run, state: Snapshot) -> None:
        """A job begins to run."""
        self.runs += 1
        if run.digest:
            self.key(run.digest).need = False
        self.check_overlaps(process, state)

    def ended_run(self, run: Run) -> None:
        """A run of a key is over for good: its row is done, unless an edge came since it started."""
        key = self.key(run.digest)
        key.pending = key.pending and key.need

    def check_overlaps(self, process: Process, state: Snapshot) -> None:
        """No two of one key run at once in processes that are up, unless one froze around a loss."""
        if state.marks.get(process.identity) == b"fenced":
            return
        others = [
            (other, run)
            for other in self._processes()
            if other.up and state.marks.get(other.identity) != b"fenced"
            for run in other.hands.busy
        ]
        for mine in process.hands.busy:
            for other, run in others:
                if run is not mine and mine.exclusive and run.digest == mine.digest:
                    self._overlap(process, mine, other, run)

    def _overlap(self, process: Process, mine: Run, other: Process, run: Run) -> None:
        if any(one.was_frozen and self.last_loss > one.started - _FRESH for one in (mine, run)):
            return
        self.broken = True
        raise Violation(f"two runs of one key: {mine} in {process.name}, {run} in {other.name}")

    # --- small -------------------------------------------------------------------------

    def _process(self, name: str) -> Process | None:
        return next((process for process in self._processes() if process.name == name), None)

    def _outcomes(self, step: Step) -> dict[str, Kind | None]:
        """Return what this exchange says of which jid: None when it ended well."""
        process = self._process(step.actor)
        sent = process.courier._sent if process else None
        outcomes: Iterable[Outcome] = sent.outcomes if sent else ()
        return {
            _jid(outcome): None if isinstance(outcome, Done) else outcome.kind
            for outcome in outcomes
        }

    def _wrong(self, step: Step, what: str) -> None:
        self.broken = True
        raise Violation(f"{what}; after {step.name} of {step.actor}, answered {step.reply!r:.300}")


def same_life(step: Step) -> bool:
    """Whether the epoch's loss id is the same before and after."""
    before, after = step.before.epoch, step.after.epoch
    return before is not None and after is not None and before.loss == after.loss


def _jid(outcome: Outcome) -> str:
    _, _, rest = outcome.job.raw.partition(b'"jid":"')
    return rest.partition(b'"')[0].decode()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
