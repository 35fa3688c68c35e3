"""Dramatiq, with its default middleware."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage

from benchmarks import tally

broker = RedisBroker(url=os.environ["REDIS_URL"])
broker.add_middleware(CurrentMessage())
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="bench")
def noop(number: int) -> None:
    """Count."""
    tally.saw(CurrentMessage.get_current_message().message_id, number)


@dramatiq.actor(queue_name="bench")
def stamp(pushed: int) -> None:
    """Tell how long it has waited."""
    tally.waited(CurrentMessage.get_current_message().message_id, pushed)


@dramatiq.actor(queue_name="bench")
def warm(_number: int) -> None:
    """Say that this process works."""
    tally.here()


JOBS = {"noop": noop, "stamp": stamp, "warm": warm}


def one(job: str, value: int) -> None:
    """Push one job."""
    JOBS[job].send(value)
