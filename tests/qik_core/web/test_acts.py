"""What buttons do: to exactly the job that was shown, once, and with a clear word where it has moved."""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from qik_core.api import DeadSet, Tally
from qik_core.api.paging import again
from qik_core.api.sets import Where
from qik_core.errors import StoreError
from qik_core.web import Access, acts
from qik_core.web.acts import MOST_AT_ONCE, Errands
from qik_core.web.asked import Ask, Problem
from qik_core.web.showing import Shower
from tests.qik_core.api.places import name, put
from tests.qik_core.store.rig import Rig
from tests.qik_core.test_cli_act import listed, signals
from tests.qik_core.web.conftest import Site
from tests.qik_core.web.site import Browser, digest_of
from tests.waiting import eventually


def row_of(browser: Browser, place: str, number: int) -> dict[str, Any]:
    rows = browser.get("/api/jobs", params={"place": place, "count": 100}).json()["rows"]
    found: dict[str, Any] = next(row for row in rows if row["jid"] == name(number))
    return found


def press(browser: Browser, place: str, verb: str, *rows: dict[str, Any]) -> str:
    browser.get("/queues")
    job = [f"{row['mark']} {row['jid']}" for row in rows]
    answer = browser.post("/jobs", {"place": place, "verb": verb, "job": job})
    assert answer.status_code == 200, answer.text
    return answer.text.split('role="status">', 2)[-1].split("</p>", 1)[0]


@pytest.mark.parametrize(
    ("place", "key", "verb", "target"),
    [
        ("retries", "retry", "retry", "queue:default"), ("retries", "retry", "bury", "dead"),
        ("retries", "retry", "delete", ""), ("dead", "dead", "retry", "queue:default"), ("dead", "dead", "delete", ""),
        ("scheduled", "schedule", "run", "queue:default"), ("scheduled", "schedule", "bury", "dead"),
        ("later:default", "qik:later:default", "run", "queue:default"), ("queue:default", "queue:default", "bury", "dead"),
        ("queue:default", "queue:default", "delete", ""),
    ],
)  # fmt: skip
def test_a_button_acts_on_the_job_that_was_shown(
    rig: Rig, site: Site, place: str, key: str, verb: str, target: str
) -> None:
    put(rig, key, 1, 2)
    browser = site()

    said = press(browser, place, verb, row_of(browser, place, 1))

    assert said.startswith("1 ")
    left = browser.get("/api/jobs", params={"place": place}).json()["rows"]
    assert [row["jid"] for row in left if row["state"] != "queued" or target != key] == [name(2)]
    if target:
        assert (
            name(1).encode()
            in (rig.raw.lrange(target, 0, -1) if ":" in target else rig.raw.zrange(target, 0, -1))[
                0
            ]
        )


def test_a_job_that_has_just_moved_stays_as_it_is_and_the_answer_says_so(
    rig: Rig, site: Site
) -> None:
    put(rig, "retry", 1)
    browser = site()
    row = row_of(browser, "retries", 1)

    first, second = (
        press(browser, "retries", "retry", row),
        press(browser, "retries", "delete", row),
    )

    assert first == "1 retried"
    assert second == "1 had moved on meanwhile: nothing was changed"
    assert rig.raw.llen("queue:default") == 1


def test_two_people_who_press_at_once_have_one_effect(rig: Rig, site: Site) -> None:
    put(rig, "dead", 1)
    browsers = [site(), site()]
    rows = [row_of(browser, "dead", 1) for browser in browsers]
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda b=browser, r=row: said.append(press(b, "dead", "retry", r)))
        for browser, row in zip(browsers, rows, strict=True)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(said) == ["1 had moved on meanwhile: nothing was changed", "1 retried"]
    assert rig.raw.llen("queue:default") == 1


def test_a_job_of_a_queue_is_found_again_when_others_were_pushed_on(rig: Rig, site: Site) -> None:
    rig.edge(1)
    browser = site()
    row = row_of(browser, "queue:default", 1)
    for first in (2, 502, 1_002):
        rig.edge(*range(first, first + 500))

    assert press(browser, "queue:default", "delete", row) == "1 deleted"
    assert name(1).encode() not in rig.raw.lrange("queue:default", -1, -1)[0]
    assert rig.raw.llen("queue:default") == 1_500


def test_a_bulk_action_counts_first_and_acts_when_confirmed(rig: Rig, site: Site) -> None:
    put(rig, "retry", 1, 2, 3)
    browser = site()
    browser.get("/retries")
    form = {"place": "retries", "where": "-args:2", "verb": "delete"}
    before = digest_of(rig.raw)

    asked = browser.post("/bulk", form)
    unchanged = digest_of(rig.raw) == before
    done = browser.post("/bulk", {**form, "sure": "yes"})

    assert "2 jobs in retries, that match -args:2" in asked.text
    assert unchanged
    assert "2 deleted" in done.text
    assert rig.raw.zcard("retry") == 1


def test_a_queue_is_paused_and_served_again(rig: Rig, site: Site) -> None:
    rig.edge(1)
    browser = site()
    browser.get("/queues")

    said = [
        browser.post("/queues/default", {"verb": verb}).text
        for verb in ("pause", "pause", "resume")
    ]

    assert ["already" in text for text in said] == [False, True, False]
    assert not rig.raw.sismember("paused", "default")


def test_a_process_is_asked_to_be_quiet_or_to_stop(rig: Rig, site: Site) -> None:
    listed(rig.raw, "h:1:a", "h:2:b")
    browser = site()
    browser.get("/busy")

    browser.post("/processes", {"verb": "quiet", "identity": "h:1:a"})
    browser.post("/processes", {"verb": "stop", "identity": "h:2:b"})
    nobody = browser.post("/processes", {"verb": "stop", "identity": "h:3:c"})

    assert (signals(rig.raw, "h:1:a"), signals(rig.raw, "h:2:b")) == (["TSTP"], ["TERM"])
    assert "nobody was asked" in nobody.text


def test_all_processes_are_asked_only_when_that_is_meant(rig: Rig, site: Site) -> None:
    listed(rig.raw, "h:1:a", "h:2:b")
    browser = site()
    browser.get("/busy")

    question = browser.post("/processes", {"verb": "stop"})
    before = signals(rig.raw, "h:1:a")
    done = browser.post("/processes", {"verb": "stop", "sure": "yes"})

    assert "all 2 processes" in question.text
    assert before == []
    assert "2 asked to stop" in done.text
    assert signals(rig.raw, "h:1:a") == signals(rig.raw, "h:2:b") == ["TERM"]


def test_a_waiting_job_is_cancelled_with_its_lock(rig: Rig, site: Site) -> None:
    rig.edge(1)
    browser = site()
    browser.get(f"/jobs/{name(1)}")

    answer = browser.post(f"/jobs/{name(1)}/cancel")

    assert "removed" in answer.text
    assert rig.raw.llen("queue:default") == 0


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/jobs", {"place": "dead", "verb": "bury", "job": "x"}), ("/jobs", {"place": "dead", "verb": "retry"}),
        ("/jobs", {"place": "nowhere", "verb": "retry"}), ("/jobs", {"place": "dead", "verb": "retry", "job": "x"}),
        ("/bulk", {"place": "dead", "verb": "__init__", "sure": "yes"}), ("/queues/default", {"verb": "clear"}),
        ("/bulk", {"place": "dead", "verb": "delete", "where": "nokey:1", "sure": "yes"}), ("/processes", {"verb": "dump"}),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    rig: Rig, site: Site, path: str, form: dict[str, str]
) -> None:
    put(rig, "dead", 1)
    browser = site()
    browser.get("/dead")
    before = digest_of(rig.raw)

    answer = browser.post(path, form)
    assert (answer.status_code, "This was not done<" in answer.text) == (400, True)
    assert digest_of(rig.raw) == before


def test_nothing_is_done_before_every_mark_was_read(rig: Rig, site: Site) -> None:
    put(rig, "dead", 1)
    browser = site()
    row = row_of(browser, "dead", 1)
    browser.get("/dead")
    before = digest_of(rig.raw)
    job = [f"{row['mark']} {row['jid']}", "x"]

    answer = browser.post("/jobs", {"place": "dead", "verb": "retry", "job": job})

    assert answer.status_code == 400
    assert digest_of(rig.raw) == before


def test_what_breaks_half_way_says_how_many_were_done(
    rig: Rig, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(rig, "dead", 1, 2, 3)
    browser = site()
    rows = [row_of(browser, "dead", number) for number in (1, 2, 3)]
    looks = itertools.count(1)

    def again_until_it_breaks(*given: Any, **rest: Any) -> Any:
        if next(looks) == 3:
            raise StoreError("the line went dead")
        return again(*given, **rest)

    monkeypatch.setattr(acts, "again", again_until_it_breaks)
    job = [f"{row['mark']} {row['jid']}" for row in rows]
    browser.get("/dead")
    answer = browser.post("/jobs", {"place": "dead", "verb": "delete", "job": job})

    assert answer.status_code == 503
    assert "This was not done, or not all of it" in answer.text
    assert "2 of 3 jobs were acted on: 2 deleted. Then: Redis does not answer" in answer.text
    assert rig.raw.zcard("dead") == 1


def test_all_jobs_of_one_request_are_searched_for_within_one_time(rig: Rig, site: Site) -> None:
    rig.edge(1, 2)
    browser = site()
    rows = [row_of(browser, "queue:default", number) for number in (1, 2)]
    for first in (3, 503, 1_003):
        rig.edge(*range(first, first + 500))
    moments = iter((0.0, 0.0, 60.0, 60.0))
    job = [f"{row['mark']} {row['jid']}" for row in rows]
    form = {"place": ["queue:default"], "verb": ["delete"], "job": job}

    shown = acts.Acts(Errands(), lambda: next(moments)).jobs(
        Ask(rig.store, Access.ADMIN, Shower(), form=form)
    )

    assert {name: shown.data.get(name) for name in ("done", "gone")} == {"done": 1, "gone": 1}
    assert "not all were searched for" in shown.data["said"]
    assert name(2).encode() in rig.raw.lrange("queue:default", -1, -1)[0]


def test_long_bulk_actions_go_on_behind_and_are_not_too_many() -> None:
    errands, gate = Errands(), threading.Event()

    def slow() -> Tally:
        gate.wait(20)
        return Tally()

    def say(_: Tally) -> str:
        return "ended"

    def run(act: Callable[[], Tally]) -> bool:
        return errands.run("all", act, say).done

    threads = [threading.Thread(target=run, args=(slow,)) for _ in range(MOST_AT_ONCE)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(errands.kept) == MOST_AT_ONCE)
    with pytest.raises(Problem, match="are going on"):
        run(Tally)
    gate.set()
    for thread in threads:
        thread.join()

    eventually(lambda: all(each.done for each in errands.kept))
    assert run(Tally)


def test_an_end_that_its_page_did_not_see_is_shown_for_some_minutes(
    rig: Rig, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(rig, "dead", 1, 2)
    browser, gate, delete_all = site(), threading.Event(), DeadSet.delete_all

    def slowly(place: DeadSet, where: Where = "") -> Tally:
        gate.wait(20)
        return delete_all(place, where)

    monkeypatch.setattr(DeadSet, "delete_all", slowly)
    browser.get("/dead")
    answer = browser.post("/bulk", {"place": "dead", "verb": "delete", "sure": "yes"})
    gate.set()

    assert "Delete: all in dead: going on" in answer.text
    eventually(lambda: "Delete: all in dead: 2 deleted" in browser.get("/queues").text)


def test_an_end_is_shown_only_where_its_page_was_answered_before_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, gate = [0.0], threading.Event()
    errands = Errands(lambda: clock[0])

    def slow() -> Tally:
        gate.wait(20)
        return Tally()

    monkeypatch.setattr(acts, "_PATIENT", 0.0)
    errands.run("slow", slow, lambda _: "ended")
    monkeypatch.setattr(acts, "_PATIENT", 20.0)
    errands.run("quick", Tally, lambda _: "ended")
    running = [each.text for each in errands.shown()]
    gate.set()
    eventually(lambda: all(each.done for each in errands.kept))
    ended = [(each.text, each.said) for each in errands.shown()]
    clock[0] = 301.0

    assert running == ["slow"]
    assert ended == [("slow", "ended")]
    assert errands.shown() == []


def test_how_a_bulk_action_ended_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Tally:
        raise StoreError("the line went dead")

    with caplog.at_level(logging.INFO, "qik_core.web"):
        Errands().run("all of it", Tally, lambda _: "7 deleted")
        Errands().run("all of it", broken, lambda _: "")

    assert [(each.levelname, each.__dict__["what"]) for each in caplog.records] == [
        ("INFO", "all of it"),
        ("WARNING", "all of it"),
    ]
    assert caplog.records[0].__dict__["result"] == "7 deleted"
    assert caplog.records[1].__dict__["error"] == "the line went dead"


def test_one_that_goes_on_is_kept_however_many_come_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errands, gate = Errands(), threading.Event()

    def slow() -> Tally:
        gate.wait(20)
        return Tally()

    monkeypatch.setattr(acts, "_PATIENT", 0.0)
    errands.run("slow", slow, lambda _: "ended")
    monkeypatch.setattr(acts, "_PATIENT", 20.0)
    for _ in range(30):
        errands.run("quick", Tally, lambda _: "ended")
    kept = [each.text for each in errands.kept]
    gate.set()

    assert kept.count("slow") == 1
    assert len(kept) == 22  # with the newest, and 20 that have ended


def test_a_bulk_action_that_goes_on_does_not_hold_up_the_end_of_the_process() -> None:
    code = (
        "import threading; from qik_core.web.acts import Errands;"
        "print(Errands().behind('all', lambda: str(threading.Event().wait())))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout == "(False, 'going on')\n"
