"""Texts that want to be scripts, in every field that is stored and every parameter: they are shown as texts, or refused."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from markupsafe import escape

from tests.qik_core.api.places import foreign
from tests.qik_core.store.rig import Rig
from tests.qik_core.web.conftest import Site
from tests.qik_core.web.test_looks import PAGES, filled

HOSTILE = (
    '<script>document.title="owned"</script>', '"><img src=x onerror=alert(1)>', "'-alert(1)-'", "{{7*7}}",
    "javascript:alert(1)", "\u202e\x1b[31m", "%00%0d%0aSet-Cookie:a=b",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_in_every_stored_field_are_shown_as_texts(
    rig: Rig, site: Site, text: str
) -> None:
    job = foreign(
        jid=text, args=[text, {text: text}], queue=text, error_class=text, error_message=text, tags=[text],
        error_backtrace=[text], display_class=text, retry_count=1, **{text: text},
    )  # fmt: skip
    for place in ("retry", "dead", "schedule"):
        rig.raw.zadd(place, {job: 5.0})
    rig.raw.lpush("queue:default", job, text.encode())
    rig.raw.sadd("queues", "default", text)
    rig.raw.sadd("processes", text)
    rig.raw.hset(text, mapping={"info": json.dumps({"tag": text}), "beat": 1})
    browser = site()
    marks = [row["mark"] for row in browser.get("/api/queues/default").json()["rows"]]

    answers = {path: browser.get(path) for path in PAGES if path != "/queues/default"}
    answers |= {
        mark: browser.get("/jobs/-", params={"place": "queue:default", "mark": mark})
        for mark in marks
    }

    assert {each.status_code for each in answers.values()} == {200}
    assert not [
        name for name, each in answers.items() if "<script>" in each.text or "<img" in each.text
    ]
    assert all(escape(text) in answers[path].text for path in ("/retries", "/queues", "/busy"))
    assert f'<span class="tag">{escape(text)}</span>' in answers["/busy"].text


@pytest.mark.parametrize(
    "text",
    [
        *HOSTILE,
        "0",
        "-1",
        "1e99",
        "9" * 30,
        "(a+)+$",
        "a" * 5_000,
        "x:y",
        '"open',
        "nan:1",
        "inf:1",
    ],
)
def test_hostile_parameters_are_refused_or_shown_as_texts(rig: Rig, site: Site, text: str) -> None:
    filled(rig)
    browser = site()

    for path in ("/", "/retries", "/dead", "/queues/default", "/jobs", "/jobs/j1"):
        for name in ("where", "after", "count", "place", "mark", "unknown"):
            answer = browser.get(path, params={name: text})
            assert answer.status_code in (200, 400, 404, 414), (path, name)
            assert "<script>" not in answer.text, (path, name)
            assert "<img" not in answer.text, (path, name)
    for path in ("/queues/", "/jobs/", "/", "/api/queues/", "/static/"):
        answer = browser.client.get(path + quote(text[:900], safe=""))
        assert answer.status_code in (200, 400, 404), path
        assert answer.headers["content-type"] == "application/json" or "<script>" not in answer.text
