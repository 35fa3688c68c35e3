"""Peers: who cannot be measured is named, rounds are void like ours, and one that fails does not end the run."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner
from rich.console import Console

from benchmarks import environments, gathering, running
from benchmarks.__main__ import main
from benchmarks.bench import Bench, MeasurementFailed
from benchmarks.cases import Case
from benchmarks.drains import Runner
from benchmarks.environments import PeerAbsent
from benchmarks.names import CaseName
from benchmarks.others import HERE, PEERS, Peer, size
from benchmarks.report import LIMIT, OURS, Measure, Results, of_text
from benchmarks.running import Order


@pytest.fixture
def bench(own_raw: redis.Redis, tmp_path: Path) -> Bench:
    path = own_raw.connection_pool.connection_kwargs["path"]
    return Bench(f"unix://{path}", tmp_path, own_raw)


def test_each_peer_has_its_side_and_pins_all_that_it_needs() -> None:
    for peer in PEERS:
        assert (HERE / f"{peer.name}.py").exists()
        lines = peer.requirements.read_text().split()
        assert [line for line in lines if "==" not in line] == []
        assert environments.versions(peer.requirements)[peer.name]
    assert {peer.name for peer in PEERS} == {
        *("arq", "celery", "dramatiq", "huey", "procrastinate", "rq", "saq", "streaq", "taskiq"),
    }


def test_an_environment_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"nothing @ file://{tmp_path}/nothing.whl\n")
    with pytest.raises(PeerAbsent, match=r"nothing\.whl"):
        environments.environment("nothing", requirements, tmp_path / "environments")


def test_a_peer_that_cannot_be_installed_is_named_with_its_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str, _requirements: Path) -> Path:
        raise PeerAbsent(f"no {name} in the index")

    monkeypatch.setattr(environments, "environment", absent)
    said = io.StringIO()
    with gathering.gathered(Console(file=said), bench, ["rq", "huey"]) as found:
        assert found.systems == []
        assert found.absent == {"rq": "no rq in the index", "huey": "no huey in the index"}
    assert "rq: absent: no rq in the index" in said.getvalue()


def test_a_peer_that_fails_in_a_round_is_named_and_the_others_go_on(bench: Bench) -> None:
    def fine(_bench: Bench, n: int, _round: int) -> list[Measure]:
        return [Measure(CaseName.PUSH, OURS, n, 1.0)]

    def broken(_bench: Bench, _n: int, _round: int) -> list[Measure]:
        raise MeasurementFailed("its worker is gone")

    case = Case(CaseName.PUSH, 1000, fine, lambda system: broken if system.name == "rq" else fine)
    rq = next(peer for peer in PEERS if peer.name == "rq")
    results = running.measure(
        Console(file=io.StringIO()), bench, Order(cases=[case], peers=[rq], rounds=2)
    )
    assert results.failures == ["push by rq: its worker is gone"] * 2
    assert len(results.measures) == 2 * len([OURS, LIMIT])


def test_what_is_missing_is_in_the_file_and_in_the_exit_code(tmp_path: Path) -> None:
    file, good = tmp_path / "peers.jsonl", [Measure(CaseName.PUSH, OURS, 1000, 1.0)]
    lines, lost = (
        Results(good).lines({}),
        ["push by rq: its worker is gone\nand more", "huey: absent"],
    )
    with pytest.raises(SystemExit, match="1"):
        running.finish(lines, lost, file)
    assert of_text(file.read_text()) == (lines, lost)
    assert all(json.loads(line) for line in file.read_text().splitlines())
    with pytest.raises(SystemExit, match="0"):
        running.finish(lines, [], file)
    assert of_text(file.read_text()) == (lines, [])


def test_a_run_of_peers_with_one_that_is_absent_exits_with_one_and_says_so_in_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str, _requirements: Path) -> Path:
        raise PeerAbsent(f"no {name} in the index")

    monkeypatch.setattr(environments, "environment", absent)
    file = tmp_path / "peers.jsonl"
    asked = ["--only", "push", "--rounds", "1", "--scale", "0.01", "--json", str(file)]
    done = CliRunner().invoke(main, ["peers", "--system", "rq", *asked])
    lines, missing = of_text(file.read_text())
    assert (done.exit_code, missing) == (1, ["rq: absent: no rq in the index"])
    assert [line.system for line in lines] == [OURS, LIMIT]
    page = CliRunner().invoke(main, ["table", str(file)])
    assert page.output.endswith("\nNot measured:\n\n* rq: absent: no rq in the index\n")


def test_a_round_that_a_peer_failed_shifts_no_other_of_its_rounds(bench: Bench) -> None:
    # The machine is ten times as fast in the second round.
    def fine(system: str, rate: float) -> Runner:
        def run(_bench: Bench, n: int, round_: int) -> list[Measure]:
            if system == "rq" and round_ == 0:
                raise MeasurementFailed("its worker is gone")
            return [Measure(CaseName.PUSH, system, n, rate * 10**round_)]

        return run

    rq = _peer("rq")
    ours, theirs = fine(OURS, 100.0), fine("rq", 50.0)
    case = Case(CaseName.PUSH, 1000, fine(LIMIT, 1.0), lambda each: theirs if each is rq else ours)
    results = running.measure(
        Console(file=io.StringIO()), bench, Order(cases=[case], peers=[rq], rounds=2)
    )
    assert results.versus(CaseName.PUSH, "rq") == 2.0


def test_a_command_that_hangs_has_failed(bench: Bench) -> None:
    hangs = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(MeasurementFailed, match="timed out after"):
        replace(bench, patience=0.2).run(hangs)


def test_a_command_that_prints_no_result_has_failed(bench: Bench) -> None:
    with pytest.raises(MeasurementFailed, match="no result here"):
        bench.run([sys.executable, "-c", "print('no result here')"])


def test_a_command_that_is_not_there_has_failed(bench: Bench) -> None:
    with pytest.raises(MeasurementFailed, match="no-such-program"):
        bench.do(["no-such-program"])


def test_a_peer_whose_database_does_not_answer_has_failed(bench: Bench) -> None:
    peer = replace(_peer("procrastinate"), postgres="postgresql://127.0.0.1:1/nothing")
    with pytest.raises(MeasurementFailed, match="the database of procrastinate"):
        peer.fresh(bench)


def _peer(name: str) -> Peer:
    return replace(next(peer for peer in PEERS if peer.name == name))


def test_jobs_that_are_missing_or_left_make_a_peers_round_void(bench: Bench) -> None:
    bench.redis.rpush("dramatiq:bench", "a", "b")
    bench.redis.hset("dramatiq:bench.msgs", mapping={"a": "1", "b": "2"})
    dramatiq = _peer("dramatiq")
    assert dramatiq.pushed(bench, 2, 0) == ()
    assert dramatiq.pushed(bench, 3, 0) == ("jobs: 2, not 3",)
    assert dramatiq.left(bench) == (*("dramatiq:bench: 2, not 0", "dramatiq:bench.msgs: 2, not 0"),)


def test_held_jobs_come_back_under_their_name(bench: Bench) -> None:
    bench.redis.rpush("bench-held:huey.redis.bench", "a")
    assert _peer("huey").release(bench)
    assert bench.redis.lrange("huey.redis.bench", 0, -1) == [b"a"]


def test_a_slow_peer_is_given_fewer_jobs() -> None:
    assert (_peer("rq").share(100_000), _peer("huey").share(100_000)) == (2_500, 25_000)


def test_every_kind_of_key_is_counted(bench: Bench) -> None:
    bench.redis.rpush("list", 1, 2)
    bench.redis.sadd("set", 1, 2, 3)
    bench.redis.zadd("zset", {"a": 1})
    bench.redis.xadd("stream", {"a": 1})
    bench.redis.set("string", "a")
    kinds = ("list", "set", "zset", "stream", "string", "nothing")
    assert [size(bench.redis, name) for name in kinds] == [2, 3, 1, 1, 1, 0]
