"""The report of a drill: one page that is well-formed, loads nothing, and says what was seen; and the same as JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from reconciler.drill import report
from reconciler.drill.curve import HEIGHT, WIDTH, curve
from reconciler.drill.evidence import Evidence, Fault, Sample
from reconciler.drill.kinds import MARKS, TITLES, Kind
from reconciler.drill.page import page
from reconciler.drill.verdict import judge
from tests.browser import opened
from tests.reconciler.drill.seen import good, with_fault

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "br"}


class Strict(HTMLParser):
    """Reads a page and holds that every element is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def image_of(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own


def shown(evidence: Evidence) -> Strict:
    return Strict(page(evidence, judge(evidence)))


def drawn(evidence: Evidence) -> ET.Element:
    return image_of(curve(evidence.samples, evidence.faults, evidence.seconds))


def test_the_page_is_well_formed_and_says_the_verdict_first() -> None:
    read = shown(good())

    text = " ".join(read.said)
    assert "0 lost, 0 doubled, 0 overlaps; nothing is off" in text
    assert "Redis emptied while jobs are queued" in text
    assert "1.9 s" in text  # whole after
    assert "valkey 9.1.0" in text


def test_the_page_loads_nothing_from_anywhere() -> None:
    text = page(good(), judge(good()))

    read = Strict(text)
    assert {tag for tag, _ in read.seen}.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert not [1 for _, given in read.seen if {"src", "href", "onload"} & given.keys()]
    assert "url(" not in text
    assert set(re.findall(r"https?://[^\"]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text


def test_what_is_off_is_said_on_the_page() -> None:
    text = " ".join(shown(with_fault(good(), 0, healed=None)).said)

    assert "1 of 9 findings are off" in text
    assert "Something is off" in text
    assert "never" in text


def test_nobody_claims_to_know_the_effects_of_an_application_of_ones_own() -> None:
    text = " ".join(shown(replace(good(), effects=None)).said)

    assert "0 lost, 0 overlaps; nothing is off" in text
    assert "doubled" not in text


def test_names_of_rows_and_settings_cannot_break_the_page() -> None:
    hostile = "<script>alert('a')</script>&\"'"
    evidence = replace(
        with_fault(good(), 0, note=hostile), settings={"began": hostile, hostile: hostile}
    )

    read = shown(with_fault(evidence, 1, missed=hostile))

    assert "script" not in {tag for tag, _ in read.seen}
    assert hostile in read.said


def test_the_curve_is_an_image_of_its_own_with_each_fault_marked_once() -> None:
    evidence = good()

    image = drawn(evidence)

    marks = [each for each in image.iter(f"{SVG}g") if each.get("class") == "mark"]
    assert [each.findtext(f"{SVG}text") for each in marks] == ["1", "2"]
    assert marks[0].findtext(f"{SVG}title") == (
        "1: Redis emptied while jobs are queued, at 4.0 s, whole after 1.9 s"
    )
    bands = [each for each in image.iter(f"{SVG}rect") if each.get("class") == "band"]
    assert len(bands) == 2
    assert image.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"


def test_a_fault_that_never_healed_is_drawn_to_the_edge_and_one_not_done_is_not_drawn() -> None:
    evidence = with_fault(with_fault(good(), 0, healed=None), 1, missed="no worker runs")

    image = drawn(evidence)

    (band,) = image.iter(f"{SVG}rect")
    assert band.get("class") == "band open"
    assert float(band.get("x", 0)) + float(band.get("width", 0)) > WIDTH - 20
    marks = [each for each in image.iter(f"{SVG}g") if each.get("class") == "mark"]
    assert len(marks) == 1


def test_every_point_of_the_curve_is_inside_of_it() -> None:
    samples = [Sample(at / 2, at * 997 % 12_345, at, 1, at * 100) for at in range(400)]

    image = image_of(curve(samples, [], 100.0))

    lines = [each for each in image if each.tag in (f"{SVG}polyline", f"{SVG}polygon")]
    assert {each.get("class") for each in lines} == {"pending", "queued", "done"}
    for line in lines:
        for point in line.get("points", "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_more_rows_that_are_done_stand_higher_and_later_samples_further_right() -> None:
    samples = [Sample(float(at), 10 - at, 0, 0, at) for at in range(11)]

    image = image_of(curve(samples, [], 10.0))

    (line,) = [each for each in image.iter(f"{SVG}polyline") if each.get("class") == "pending"]
    places = [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted(y for _, y in places)  # y grows downwards


def test_a_long_drill_is_drawn_with_as_many_points_as_can_be_told_apart() -> None:
    samples = [Sample(at / 10, 7, 0, 0, at) for at in range(36_000)]
    samples[20_001] = Sample(2000.1, 900, 0, 0, 20_001)

    image = image_of(curve(samples, [], 3600.0))

    (line,) = [each for each in image.iter(f"{SVG}polyline") if each.get("class") == "pending"]
    points = [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
    assert 400 < len(points) < 1000
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert sum(y < points[0][1] - 100 for _, y in points) == 1  # the one high point is there


def test_a_drill_that_saw_nothing_has_an_empty_curve() -> None:
    image = image_of(curve([], [], 0.0))

    assert [each.get("points") for each in image.iter(f"{SVG}polyline")] == ["", ""]


def test_both_files_are_written_and_the_json_has_the_verdict_first(tmp_path: Path) -> None:
    evidence = good()

    where = report.write(tmp_path / "new" / "folder", evidence, judge(evidence))

    told = json.loads((where.parent / "report.json").read_text())
    assert list(told)[:5] == ["sound", "headline", "lost", "doubled", "overlaps"]
    assert told["sound"] is True
    assert told["faults"][0]["title"] == TITLES[Kind.QUEUED]
    assert told["faults"][0]["took"] == pytest.approx(1.9)
    assert told["runs"] == 3
    assert where.read_text().startswith("<!DOCTYPE html>")


def test_a_browser_opens_the_page_and_complains_of_nothing(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(good(), judge(good())))

    seen = opened(file, tmp_path / "profile")

    assert "nothing is off</h1>" in seen
    for what in ('class="mark"', "<poly", "<tr", "</svg>"):
        assert seen.count(what) == file.read_text().count(what) > 0, what


def test_every_fault_has_a_title_and_a_mark() -> None:
    assert set(TITLES) == set(MARKS) == set(Kind)
    assert all(Fault(kind, 0, 0, 0, 0).title and Fault(kind, 0, 0, 0, 0).mark for kind in Kind)
