"""The provider before a server with bad days: whatever it answers, the last good answer stays, and costs are bounded."""

from __future__ import annotations

import itertools
import logging
import threading
from pathlib import Path

import pytest

from tests.unleash import stub as stubs
from tests.unleash.providing import (
    OFF,
    ON,
    QUICK,
    Make,
    file_of,
    flags,
    known,
    polled,
    threads,
)
from tests.unleash.stub import TOKEN, Stub, Way, good
from tests.waiting import eventually, never

# --- U3: hangs, drips, floods, redirects ---


BOUNDED: dict[str, tuple[Way, str]] = {
    "hangs": (stubs.hang(), "does not answer within 2 s"),
    "drips a body": (stubs.drip_body, "sends its answer for longer than 5 s"),
    "drips a head": (stubs.drip_head, "does not end its answer"),
    "100 MB": (stubs.huge, "answers with more than 16,000,000 bytes"),
    "unpacks to 100 MB": (stubs.packed, "answers with more than 16,000,000 bytes"),
    "redirects": (stubs.redirects, "name the final address in switches.unleash_url"),
}


@pytest.mark.parametrize("how", BOUNDED)
def test_an_answer_without_end_is_ended_and_the_next_good_one_is_taken(
    how: str, stub: Stub, make: Make
) -> None:
    way, said = BOUNDED[how]
    patient = QUICK._replace(patience=1.0 if how == "drips a head" else 15.0)
    provider = make(means=patient)
    known(provider, "disable_mail")
    peak = _memory()

    stub.way = way
    eventually(lambda: said in provider.health(), 60.0, f"it says {said!r}")
    assert flags(provider) == ["disable_mail"]
    assert _memory() - peak < 60_000_000

    stub.way = good(OFF)
    known(provider)
    assert provider.health() == ""


def _memory() -> int:
    """The most memory this process ever used, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def test_polls_that_hang_are_few_however_long_it_lasts(stub: Stub, make: Make) -> None:
    stub.way = stubs.drip_head
    provider = make(means=QUICK._replace(patience=0.2))

    eventually(lambda: len(threads()) == 4, 30.0, "three hang, and one more polls")
    never(lambda: len(threads()) > 4, 1.0)

    stub.way = good(ON)
    stub.stop()
    stub.start()
    known(provider, "disable_mail")


def test_what_a_poll_that_was_left_behind_still_finds_is_not_used(stub: Stub, make: Make) -> None:
    ended = threading.Event()

    def late(visit: stubs.Visit) -> None:
        stub.way = good(ON)
        visit.wait(1.5)
        visit.answer(200, OFF.encode())
        ended.set()

    told: list[object] = []
    stub.way = late
    provider = make(lambda it: told.append(flags(it)), QUICK._replace(patience=0.3))
    known(provider, "disable_mail")

    assert ended.wait(30)
    eventually(lambda: len(threads()) == 1, 20.0, "it has ended")
    polled(stub)

    assert flags(provider) == ["disable_mail"]
    assert told == [["disable_mail"]]


def test_a_line_in_netrc_does_not_take_the_place_of_the_token(
    stub: Stub, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    known(make(), "disable_mail")

    assert {each.headers["authorization"] for each in stub.visits} == {TOKEN}


def test_a_token_goes_nowhere_else_than_it_was_meant_to(stub: Stub, make: Make) -> None:
    with Stub(good(OFF)) as other:
        stub.way = stubs.status(302, Location=f"{other.url}/client/features")
        provider = make()
        eventually(lambda: other.url in provider.health(), 20.0)
        polled(stub)

        assert other.visits == []


# --- U4: garbage ---


BAD: dict[str, tuple[Way, str]] = {
    "html": (stubs.body(b"<!DOCTYPE html><title>Sign in</title>"), "no features of Unleash"),
    "cut": (stubs.body(OFF.encode()[:-30]), "no features of Unleash"),
    "another schema": (stubs.body(b'{"version":2,"features":{}}'), "no features of Unleash"),
    "nothing": (stubs.body(b""), "answers with nothing"),
    "401": (stubs.status(401), "does not take the token"),
    "429": (stubs.status(429, Retry_After="1"), "asked too often"),
    "500": (stubs.status(500, b"<html>oops</html>"), "500 error"),
    "503": (stubs.status(503, b"<html>oops</html>"), "answers 503"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_answer_never_takes_the_place_of_a_good_one(
    how: str, stub: Stub, make: Make, tmp_path: Path
) -> None:
    told: list[int] = []
    way, said = BAD[how]
    provider = make(lambda _: told.append(1))
    known(provider, "disable_mail")
    kept = file_of(tmp_path).read_bytes()

    stub.way = way
    eventually(lambda: said in provider.health(), 30.0, f"it says {said!r}")
    assert flags(provider) == ["disable_mail"]
    assert file_of(tmp_path).read_bytes() == kept
    provider.close()
    another = make(lambda _: told.append(2))
    polled(stub)
    assert flags(another) == ["disable_mail"]
    assert file_of(tmp_path).read_bytes() == kept
    assert told == [1]

    stub.way = good(OFF)
    known(another)


@pytest.mark.parametrize("tag", ["", '"of-somebody-else"'])
def test_a_304_for_somebody_who_knows_nothing_is_no_answer(
    tag: str, stub: Stub, make: Make
) -> None:
    stub.way = lambda visit: visit.answer(304, ETag=tag)
    provider = make()
    eventually(lambda: "304" in provider.health(), 20.0)
    polled(stub)
    assert provider.rules() is None

    stub.way = good(ON)
    known(provider, "disable_mail")


def test_a_tag_of_garbage_is_not_sent_back(stub: Stub, make: Make) -> None:
    garbage = stubs.body(b"<html>")

    def way(visit: stubs.Visit) -> None:
        visit.answer(304) if "if-none-match" in visit.headers else garbage(visit)

    stub.way = way
    provider = make()
    polled(stub, 3)

    assert all("if-none-match" not in each.headers for each in stub.asked())
    assert "no features" in provider.health()


def test_a_server_that_flaps_flips_nothing(stub: Stub, make: Make) -> None:
    told: list[int] = []
    ways = [good(ON), *(way for way, _ in BAD.values())]
    turn = itertools.cycle(ways)

    def way(visit: stubs.Visit) -> None:
        next(turn)(visit)

    stub.way = way
    provider = make(lambda _: told.append(1))
    known(provider, "disable_mail")
    eventually(lambda: len(stub.asked()) > 2 * len(ways), 60.0)

    assert flags(provider) == ["disable_mail"]
    assert told == [1]


def test_a_server_that_asks_for_time_gets_it(stub: Stub, make: Make) -> None:
    stub.way = stubs.status(429, Retry_After="60")
    provider = make()
    eventually(lambda: "asked too often" in provider.health(), 20.0)

    never(lambda: len(stub.asked()) > 1, 1.0)


def test_its_trouble_is_a_line_or_two_in_the_log(
    stub: Stub, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stub.stop()
    provider = make()
    eventually(lambda: "cannot be reached" in provider.health(), 20.0)
    eventually(lambda: "unleash does not answer" in caplog.text, 20.0)
    stub.way = stubs.status(500)
    stub.start()
    polled(stub, 10)

    ours = [each for each in caplog.records if each.name == "reconciler"]
    theirs = [each for each in caplog.records if each.name != "reconciler"]

    assert [each.getMessage() for each in ours] == ["unleash does not answer"]
    assert len(theirs) == len({str(each.msg)[:100] for each in theirs})
    assert all(each.exc_info is None for each in caplog.records)
    assert TOKEN not in caplog.text


def test_what_others_log_under_the_same_name_is_untouched(
    stub: Stub, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    known(make(), "disable_mail")
    for _ in range(3):
        logging.getLogger("UnleashClient").error("of the application itself")

    assert caplog.text.count("of the application itself") == 3
