"""Which peers there are on this machine: each installed, tried once, or named with what keeps it away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from rich.console import Console

from benchmarks import environments, running, sidekiq
from benchmarks.bench import Bench, MeasurementFailed
from benchmarks.drains import drain
from benchmarks.environments import PeerAbsent
from benchmarks.names import CaseName
from benchmarks.others import PEERS, Peer
from benchmarks.workers import System
from tests import servers

COMPARED: Final = (
    CaseName.PUSH, CaseName.BULK, CaseName.DRAIN, CaseName.DRAIN_ALL_CORES, CaseName.LATENCY,
)  # fmt: skip
SIDEKIQ: Final = sidekiq.NAME
_TRIED: Final = 20


@dataclass(slots=True)
class Found:
    """The peers that can be measured, and those that cannot."""

    systems: list[System] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """Name → why."""

    @property
    def missing(self) -> list[str]:
        """Who is absent, and why."""
        return [f"{name}: absent: {why}" for name, why in self.absent.items()]

    def tell(self, console: Console) -> None:
        """Name who is absent, and why."""
        for each in self.missing:
            console.print(each, style="red", soft_wrap=True)


@contextmanager
def gathered(console: Console, bench: Bench, wanted: Sequence[str]) -> Iterator[Found]:
    """Yield the peers that are wanted, or all, while what they need is there."""
    found = Found()
    if not wanted or SIDEKIQ in wanted:
        _add_sidekiq(found)
    with _postgres(found, wanted) as postgres:
        for peer in PEERS:
            if (wanted and peer.name not in wanted) or peer.name in found.absent:
                continue
            console.print(f"{peer.name}: environment and first job …")
            try:
                _add(found, bench, peer, postgres)
            except (PeerAbsent, MeasurementFailed) as error:
                found.absent[peer.name] = str(error)
        found.tell(console)
        yield found


def _add_sidekiq(found: Found) -> None:
    told = sidekiq.versions()
    if told is None:
        found.absent[SIDEKIQ] = "apt-get install ruby-sidekiq"
        return
    found.systems.append(sidekiq.Sidekiq())
    found.versions |= {f"peer {name}": text for name, text in told.items()}


def _add(found: Found, bench: Bench, peer: Peer, postgres: str) -> None:
    programs = environments.environment(peer.name, peer.requirements)
    peer = replace(peer, programs=programs, postgres=postgres if _needs_postgres(peer) else "")
    if peer.postgres:
        _make_tables(bench, peer)
    _, wrong = drain(peer, bench, _TRIED)
    if wrong:
        raise PeerAbsent(f"{_TRIED} jobs for a trial: {'; '.join(wrong)}")
    found.systems.append(peer)
    found.versions[f"peer {peer.name}"] = environments.versions(peer.requirements)[peer.name]


def _needs_postgres(peer: Peer) -> bool:
    return not peer.leaves


def _make_tables(bench: Bench, peer: Peer) -> None:
    first, app, *_ = peer.worker
    bench.do([str(peer.programs / first), app, "schema", "--apply"], BENCH_POSTGRES=peer.postgres)


@contextmanager
def _postgres(found: Found, wanted: Sequence[str]) -> Iterator[str]:
    """Yield a private PostgreSQL for the peer that needs one; without a server that one is absent."""
    name = next(peer.name for peer in PEERS if _needs_postgres(peer))
    if wanted and name not in wanted:
        yield ""
        return
    if servers.find_postgres() is None:
        found.absent[name] = running.NO_POSTGRES
        yield ""
        return
    with running.postgres() as url:
        yield url.replace("+psycopg", "")
