"""Scenarios 6 and 7: workers and reconcilers that are killed at any moment."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from typing import Any

from sqlalchemy import func, select

from reconciler.tables import lease
from tests.acceptance.scenarios.world import (
    PLAIN,
    Size,
    World,
    end_by_force,
    idle,
    locks,
    sizes,
)
from tests.integration.shop import LEASE
from tests.waiting import eventually

HOST = ("-q", "work", "-p", "1", "-c", "5")
BETWEEN = 2.0
SECONDS = 0.2


@sizes(fast=100, full=2_000, times=20, timeout=600)
def test_scenario_06_workers_killed_every_two_seconds_lose_no_row(
    world: World, size: Size, raw: Any
) -> None:
    """Each kill takes a whole host, parent and child, or the child alone.

    A job whose process was killed three times while it ran alone is dead, as the rule of poison has it, and its row is
    held back: such rows are named by the dead set.
    """
    world.plain(seconds=SECONDS)
    world.fill(range(1, size.rows + 1))
    world.reconcile()
    hosts = [world.spawn(*HOST), world.spawn(*HOST)]
    world.await_ready()

    cut = storm(world, hosts, 60.0 if size.full else 4.0)

    eventually(lambda: world.pending() <= raw.zcard("dead"), 120, "every row is done", every=0.1)
    dead = buried(raw)
    eventually(lambda: not [key for key in locks(raw) if world.pending() == 0], 30)
    runs = world.runs()
    ended = [run for run in runs if run.ended is not None]
    assert {run.item_id for run in ended} | dead == set(range(1, size.rows + 1))
    assert {run.pid for run in runs if run.ended is None} <= cut.keys()
    for number in {run.item_id for run in ended}:
        of_row = [run for run in ended if run.item_id == number]
        assert all(run.pid in cut for run in of_row[:-1]), f"row {number} ran again: {of_row}"
    world.check_no_overlap(cut)
    assert idle(raw) or dead


def storm(world: World, hosts: list[subprocess.Popen[bytes]], seconds: float) -> dict[int, float]:
    """Kill a host at random every two seconds and start it again; returns process id → when it was killed."""
    cut: dict[int, float] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        moment = time.monotonic() + BETWEEN * random.uniform(0.7, 1.3)
        eventually(lambda moment=moment: time.monotonic() > moment, BETWEEN * 2)  # type: ignore[misc]
        at = random.randrange(len(hosts))
        children = world.children(hosts[at]) if hosts[at].poll() is None else []
        whole = random.random() < 0.5
        end_by_force([hosts[at].pid, *children] if whole else children)
        cut |= dict.fromkeys(children, time.monotonic())
        if whole:
            hosts[at].wait()
            hosts[at] = world.spawn(*HOST)
    return cut


def buried(raw: Any) -> set[int]:
    """The rows whose jobs are dead."""
    return {json.loads(payload)["args"][0] for payload in raw.zrange("dead", 0, -1)}


PAGES = 20
STOPS = """
import os

def stop_at(row):
    if row[0] == {stop} and os.environ.get("STOPS"):
        open("stopped", "w").close()
        wait(600)
    return (row[0],)
""" + PLAIN.replace("every={every}", "every={every}, batch_size={page}").replace(
    "PENDING)", "PENDING, args=stop_at)"
)


@sizes(fast=400, full=20_000, times=20, on="postgres")
def test_scenario_07_a_reconciler_killed_in_its_fifth_page_is_replaced(
    world: World, size: Size, raw: Any
) -> None:
    """The standby begins from the bottom, not from a cursor: a late commit behind one would be missed. It finds the
    rows of the first pages told by one read a page, and pushes none of them again."""
    page = size.rows // PAGES
    stop = 4 * page + random.randint(1, page)
    world.define(STOPS, stop=stop, page=page, every=2.0, seconds=0.0)
    world.fill(range(1, size.rows + 1))
    leader = world.reconcile(STOPS="1")
    eventually((world.folder / "stopped").exists, 30)
    world.reconcile()
    eventually(lambda: _processes(world) == 2, 20, "the standby waits for leases")

    leader.send_signal(signal.SIGKILL)
    leader.wait()
    killed = time.monotonic()

    eventually(lambda: len(world.ledger()) == 2, LEASE + 2 + 1, "the standby leads")
    assert time.monotonic() - killed <= LEASE + 2
    eventually(lambda: raw.llen("queue:work") == size.rows, 30)
    eventually(lambda: world.completed() >= 1, 30)
    first = world.ledger()[1]
    codes = json.loads(first.codes)
    assert codes["enqueued"] + codes["told"] == size.rows
    assert 3 * page <= codes["told"] <= 5 * page
    assert not [code for code in world.codes() if code.startswith("duplicate")]


def _processes(world: World) -> int:
    with world.engine.connect() as connection:
        query = select(func.count()).where(lease.c.reconciler.startswith("#"))
        return int(connection.execute(query).scalar_one())
