"""What of a job is shown: no value of a secret name, however that is written; a command only where it pushes that job."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import pytest

from qik_core import Job, registry
from qik_core.api.paging import Mark, Marked
from qik_core.web.showing import LONGEST, MASK, REDACTED, Shower
from tests.qik_core.api.places import record


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("cardNumber", REDACTED), ("privateKey", REDACTED), ("X-API-KEY", REDACTED), ("card number", REDACTED),
        ("passport", ["pass-port"]), ("pass_port", ["Pass-Port"]), ("Pass port", ["passPort"]),
    ],
)  # fmt: skip
def test_a_name_is_masked_however_its_words_are_joined(name: str, terms: Sequence[str]) -> None:
    shown = Shower(terms).args(record(args=[{name: "S3CR3T", "user": 7}]))

    assert "S3CR3T" not in shown
    assert MASK in shown
    assert '"user":7' in shown


def test_a_parameter_is_masked_by_the_same_rule() -> None:
    with registry.scope():

        class Pay(Job):
            def perform(self, user: int, cardNumber: str) -> None: ...  # noqa: N803  so others write

        shown = Shower().args(record(**{"class": "Pay", "args": [7, "S3CR3T"]}))

    assert shown == f'[7,"{MASK}"]'


def command_of(**fields: Any) -> str:
    job = record(**fields)
    return Shower().whole(Marked("retries", job, Mark.of(job.raw, 1.0))).command


def test_the_command_pushes_such_a_job_again() -> None:
    words = shlex.split(command_of(args=[7, "it's", {"a": None}]))

    assert words == ["qik", "enqueue", "Charge", "--", "7", '"it\'s"', '{"a":null}']


WRAPPER = "ActiveJob::QueueAdapters::SidekiqAdapter::JobWrapper"


@pytest.mark.parametrize(
    "fields",
    [
        {"args": [{"password": "S3CR3T"}]}, {"args": [7, "c2VjcmV0"], "encrypt": True}, {"args": ["x" * LONGEST]},
        {"class": WRAPPER, "wrapped": "Mail", "args": [{"job_class": "Mail", "arguments": [7]}]},
    ],
    ids=["masked", "encrypted", "too long", "wrapped"],
)  # fmt: skip
def test_there_is_no_command_that_would_push_another_job(fields: dict[str, Any]) -> None:
    assert command_of(**fields) == ""
