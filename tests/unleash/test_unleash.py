"""The provider before a server with bad days: it waits for nothing, loses nothing it knew, and takes up what is new."""

from __future__ import annotations

import itertools
import json
import logging
import pickle
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.switches.features import Names
from reconciler.switches.unleash import Means, Unleash
from tests.unleash import stub as stubs
from tests.unleash.forked import FORK
from tests.unleash.planted import Planted
from tests.unleash.stub import TOKEN, Stub, Way, constraint, document, feature, good, rollout
from tests.waiting import eventually, never

NAMES = Names({"Charge": "billing", "Mail": "slow"}, {})
QUICK = Means(lambda: NAMES, dice=lambda: 0.0, patience=1.0, longest=0.2)
REFRESH = 0.1
ON = document(feature("disable_mail", rollout(), description="the provider is down"))
OFF = document(feature("disable_mail", rollout(), enabled=False))

Make = Callable[..., Unleash]


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub(good(ON)) as made:
        yield made


@pytest.fixture
def make(stub: Stub, tmp_path: Path) -> Iterator[Make]:
    """Starts a provider for the stub; each one keeps its file in the same folder."""
    made: list[Unleash] = []

    def start(changed: Callable[[Unleash], None] = lambda _: None, means: Means = QUICK) -> Unleash:
        provider = Unleash(stub.url, TOKEN, "shop", REFRESH, tmp_path / "kept", means)
        made.append(provider)
        provider.start(lambda: changed(provider))
        return provider

    yield start
    for each in made:
        each.close()
    stub.stop()
    eventually(lambda: not threads(), 20.0, "its threads have ended")


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "reconciler-unleash"]


def flags(provider: Unleash) -> list[str] | None:
    rules = provider.rules()
    return None if rules is None else sorted(rules)


def known(provider: Unleash, *wanted: str) -> None:
    eventually(lambda: flags(provider) == list(wanted), 30.0, f"{wanted} are on")


def polled(stub: Stub, times: int = 2) -> None:
    """Wait until it has been asked so often again."""
    before = len(stub.asked())
    eventually(lambda: len(stub.asked()) >= before + times, 60.0, f"{times} more polls")


def file_of(folder: Path) -> Path:
    """Return the file where what is known is kept, as soon as it is there."""
    return eventually(lambda: next((folder / "kept").glob("unleash-*.json"), None), 20.0)  # type: ignore[return-value]


def test_flags_become_rules_and_every_change_is_told_once(stub: Stub, make: Make) -> None:
    told: list[list[str] | None] = []
    provider = make(lambda it: told.append(flags(it)))
    known(provider, "disable_mail")
    (rule,) = (provider.rules() or {})["disable_mail"]
    assert (rule.source, rule.reason) == ("unleash", "the provider is down")
    assert abs(rule.since - time.time()) < 60
    assert provider.health() == ""

    polled(stub, 3)
    stub.way = good(OFF)
    known(provider)
    stub.way = good(ON)
    known(provider, "disable_mail")

    eventually(lambda: told == [["disable_mail"], [], ["disable_mail"]], 10.0)


def test_an_unchanged_answer_travels_once(stub: Stub, make: Make) -> None:
    known(make(), "disable_mail")
    polled(stub, 3)

    first, *others = stub.asked()

    assert "if-none-match" not in first.headers
    assert all("if-none-match" in each.headers for each in others)


def test_the_server_is_told_who_asks_and_with_which_token(stub: Stub, make: Make) -> None:
    known(make(), "disable_mail")

    head = stub.asked()[0].headers

    assert head["authorization"] == TOKEN
    assert head["unleash-appname"] == "shop"
    assert socket.gethostname() in head["unleash-instanceid"]


def test_two_providers_are_two_instances(stub: Stub, make: Make) -> None:
    make()
    make()

    eventually(lambda: len({each.headers["unleash-instanceid"] for each in stub.asked()}) == 2)


# --- U1, U2: down at the start, down later ---


def test_a_server_that_is_down_at_the_start_is_waited_for_by_nobody(stub: Stub, make: Make) -> None:
    stub.stop()
    began = time.monotonic()
    provider = make()
    assert time.monotonic() - began < 1.0

    eventually(lambda: "cannot be reached" in provider.health(), 20.0)
    assert provider.rules() is None
    assert "nothing is known of its switches" in provider.health()

    stub.start()
    known(provider, "disable_mail")
    assert provider.health() == ""


def test_a_server_that_goes_down_leaves_its_last_word_also_over_a_restart(
    stub: Stub, make: Make
) -> None:
    provider = make()
    known(provider, "disable_mail")
    since = (provider.rules() or {})["disable_mail"][0].since
    stub.stop()
    eventually(lambda: "cannot be reached" in provider.health(), 20.0)
    assert "its last word counts" in provider.health()
    assert flags(provider) == ["disable_mail"]
    provider.close()

    another = make()

    assert flags(another) == ["disable_mail"]  # at once, and before anybody was asked
    assert (another.rules() or {})["disable_mail"][0].since == since
    stub.way = good(OFF)
    stub.start()
    known(another)


# --- U3: hangs, drips, floods, redirects ---


BOUNDED: dict[str, tuple[Way, str]] = {
    "hangs": (stubs.hang(), "does not answer within 2 s"),
    "drips a body": (stubs.drip_body, "sends its answer for longer than 5 s"),
    "drips a head": (stubs.drip_head, "does not end its answer"),
    "100 MB": (stubs.huge, "answers with more than 16,000,000 bytes"),
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


# --- U6: flags come and go ---


def test_a_flag_that_is_deleted_stops_nothing_any_more(stub: Stub, make: Make) -> None:
    provider = make()
    known(provider, "disable_mail")

    stub.way = good(document(feature("disable_mails", rollout())))

    known(provider, "disable_mails")  # renamed: whom it stops is judged by its new name


def test_what_cannot_be_a_rule_is_decided_class_by_class_and_said(stub: Stub, make: Make) -> None:
    custom = {"name": "userWithId", "parameters": {"userIds": "Mail"}}
    stub.way = good(document(feature("disable_mail", custom), feature("disable_charge", custom)))
    provider = make()

    known(provider, "disable_mail")

    assert provider.health() == (
        "disable_charge is decided class by class, as it has strategy userWithId; "
        "disable_mail is decided class by class, as it has strategy userWithId"
    )


def test_what_was_decided_class_by_class_holds_from_the_first_moment_of_the_next_start(
    stub: Stub, make: Make
) -> None:
    parent = feature("outage", rollout())
    stub.way = good(document(feature("disable_mail", dependencies=[{"feature": "outage"}]), parent))
    provider = make()
    known(provider, "disable_mail")
    provider.close()
    stub.stop()

    another = make()

    assert flags(another) == ["disable_mail"]
    eventually(lambda: "cannot be reached" in another.health(), 20.0)
    assert flags(another) == ["disable_mail"]  # by the engine, which was given what was kept


def test_constraints_on_tenant_and_key_reach_the_rules(stub: Stub, make: Make) -> None:
    stub.way = good(
        document(
            feature(
                "disable_charge",
                rollout(50, constraint("tenant", "IN", "acme"), constraint("key", "NOT_IN", "7")),
            )
        )
    )
    provider = make()
    known(provider, "disable_charge")

    (rule,) = (provider.rules() or {})["disable_charge"]

    assert rule.percent == 50.0
    assert [(each.field, each.operator, each.values) for each in rule.where] == [
        ("tenant", "in", ("acme",)),
        ("key", "not_in", ("7",)),
    ]


# --- U7: a fork ---


def test_a_forked_child_sees_flags_flip(stub: Stub) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORK, stub.url, TOKEN, "disable_mail"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        said = {process.stdout.readline().strip(), process.stdout.readline().strip()}
        assert said == {"child", "parent"}
        stub.way = good(OFF)

        assert process.wait(90) == 0


# --- U8: what others may have written ---


def test_only_this_user_can_touch_what_is_kept(stub: Stub, make: Make, tmp_path: Path) -> None:
    known(make(), "disable_mail")

    kept = file_of(tmp_path)

    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert TOKEN not in kept.read_text()
    assert json.loads(kept.read_text())["document"] == ON


@pytest.mark.parametrize("how", ["a pickle", "of others", "of a folder of others", "rubbish"])
def test_what_others_may_have_written_is_never_taken_up(
    how: str, stub: Stub, make: Make, tmp_path: Path
) -> None:
    provider = make()
    known(provider, "disable_mail")
    provider.close()
    kept = file_of(tmp_path)
    mark = tmp_path / "mark"
    if how == "a pickle":
        kept.write_bytes(pickle.dumps(Planted(mark)))
    elif how == "of others":
        kept.chmod(0o666)
    elif how == "of a folder of others":
        kept.parent.chmod(0o777)
    else:
        kept.write_bytes(kept.read_bytes()[:-1])
    stub.stop()

    another = make()

    assert another.rules() is None
    assert "is not used" in another.health()
    assert not mark.exists()
    stub.start()
    known(another, "disable_mail")
    assert not mark.exists()


def test_the_pickles_of_the_librarys_own_cache_are_never_opened(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    from fcache.cache import FileCache  # type: ignore[import-untyped]

    with FileCache("shop", flag="cs", app_cache_dir=None) as theirs:
        theirs["/client/features"] = Planted(mark)
    provider = Unleash(stub.url, TOKEN, "shop", REFRESH, None, QUICK)
    provider.start(lambda: None)

    known(provider, "disable_mail")
    provider.close()

    assert not mark.exists()


def test_another_token_never_takes_up_what_was_kept_for_this_one(
    stub: Stub, make: Make, tmp_path: Path
) -> None:
    known(make(), "disable_mail")
    stub.stop()

    other = Unleash(stub.url, "default:production.x", "shop", REFRESH, tmp_path / "kept", QUICK)
    other.start(lambda: None)
    try:
        assert other.rules() is None
    finally:
        other.close()


def test_a_folder_that_cannot_be_used_costs_nothing_but_the_next_start(
    stub: Stub, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    provider = Unleash(stub.url, TOKEN, "shop", REFRESH, tmp_path / "file" / "x", QUICK)
    provider.start(lambda: None)

    known(provider, "disable_mail")
    eventually(lambda: "are not kept" in provider.health(), 10.0)
    provider.close()


# --- itself ---


def test_what_hears_of_changes_may_fail(
    stub: Stub, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: Unleash) -> None:
        raise RuntimeError("planted")

    provider = make(fails)
    known(provider, "disable_mail")
    stub.way = good(OFF)
    known(provider)

    assert "what should hear of changed switches failed" in caplog.text


def test_closing_ends_its_thread_and_keeps_what_is_known(stub: Stub, make: Make) -> None:
    provider = make()
    known(provider, "disable_mail")

    provider.close()

    eventually(lambda: not threads(), 10.0)
    assert flags(provider) == ["disable_mail"]
