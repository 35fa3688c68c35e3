"""Commands of the operator against a worker that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from qik_core.store import Store
from tests import forks
from tests.waiting import alive, eventually, never

ROOT = Path(__file__).parents[2]
APP = """
import time
from pathlib import Path
from qik_core import Job

HERE = Path(__file__).parent

class Wait(Job):
    def perform(self, n: int) -> None:
        (HERE / f"began{n}").touch()
        while not (HERE / "go").exists():
            self.context.checkpoint()
            time.sleep(0.01)
        (HERE / f"ended{n}").touch()
"""


class Desk:
    """A folder with a worker, and commands typed there."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        (folder / "shop.py").write_text(APP)
        (folder / "qik.toml").write_text(
            f"redis = '{url}'\napp = 'shop'\nheartbeat = 0.5\nlease = 3\n"
        )
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        Store(url, birth_ms=0).look()
        with (folder / "log").open("wb") as log:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "qik_core.cli", "work"],
                env=self.environment,
                cwd=folder,
                stderr=log,
            )

    def qik(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return forks.run(forks.QIK, arguments, cwd=self.folder, env=self.environment)

    def push(self, number: int) -> str:
        told = self.qik("enqueue", "Wait", str(number), "--json")
        return str(json.loads(told.stdout)["jid"])

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def close(self) -> None:
        (self.folder / "go").touch()
        self.worker.terminate()
        self.worker.wait(30)


@pytest.fixture
def desk(tmp_path: Path, redis_url: str) -> Iterator[Desk]:
    desk = Desk(tmp_path, redis_url)
    yield desk
    desk.close()


def test_cancel_stops_a_running_job_at_its_checkpoint_and_counts_it(
    desk: Desk, raw: redis.Redis
) -> None:
    jid = desk.push(1)
    eventually(lambda: desk.has("began1"), 20)
    told = desk.qik("cancel", jid, "--json")
    assert json.loads(told.stdout)["result"] == "asked"
    eventually(lambda: raw.hget("qik:counts", "cancelled") == b"1")
    assert not desk.has("ended1")
    assert raw.zcard("retry") + raw.zcard("dead") + raw.llen("queue:default") == 0


def test_a_paused_queue_is_not_fetched_from_until_it_is_resumed(
    desk: Desk, raw: redis.Redis
) -> None:
    eventually(lambda: raw.scard("processes") == 1, 20)
    assert desk.qik("pause", "default").returncode == 0
    desk.push(1)
    never(lambda: desk.has("began1"), 0.5)
    assert "paused: default" in desk.qik("doctor").stdout
    assert desk.qik("resume", "default").returncode == 0
    eventually(lambda: desk.has("began1"))


def test_quiet_and_stop_reach_a_worker_through_redis(desk: Desk, raw: redis.Redis) -> None:
    eventually(lambda: raw.scard("processes") == 1, 20)
    (process,) = json.loads(desk.qik("status", "--json").stdout)["processes"]
    assert desk.qik("quiet", process["identity"]).returncode == 0
    eventually(lambda: "quiet: no more jobs" in desk.log)
    desk.push(1)
    never(lambda: desk.has("began1"), 0.5)
    pid = int(process["identity"].split(":")[1])
    assert desk.qik("stop", process["identity"]).returncode == 0
    eventually(lambda: not alive(pid))
    eventually(lambda: desk.has("began1"), 20)  # its parent has put another in its place
