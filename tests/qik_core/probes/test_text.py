from __future__ import annotations

from qik_core.probes.families import BOUNDS, COUNTER, GAUGE, HISTOGRAM, Family
from qik_core.probes.text import Samples, add, counted, histogram, labels, render
from tests.probing import check_with_promtool, samples

FAMILIES = (
    Family("a_total", COUNTER, "What is counted.", ("class",)),
    Family("b", GAUGE, "What goes up and down."),
    Family("c_seconds", HISTOGRAM, "How long it takes.", ("name",)),
)


def test_a_page_has_each_family_once_with_its_help_and_type_in_front() -> None:
    page = render(FAMILIES, {"b": {"": 1.5}, "a_total": {labels(class_="X"): 3.0}})

    assert page.splitlines() == [
        "# HELP a_total What is counted.",
        "# TYPE a_total counter",
        'a_total{class="X"} 3',
        "# HELP b What goes up and down.",
        "# TYPE b gauge",
        "b 1.5",
    ]


def test_labels_may_hold_anything(promtool: str) -> None:
    hostile = 'a"b\\c\nd{}=,é\u2028 \r'

    page = render(FAMILIES, {"a_total": {labels(class_=hostile): 1}})

    assert page.count("\n") == 3
    check_with_promtool(promtool, page)


def test_a_histogram_adds_its_buckets_up(promtool: str) -> None:
    counts = [0] * (len(BOUNDS) + 1)
    counts[0], counts[3], counts[-1] = 2, 1, 4

    page = render(FAMILIES, {"c_seconds": histogram(labels(name="q"), counts, 12.25)})

    found = samples(page)
    assert found['c_seconds_bucket{name="q",le="0.005"}'] == 2
    assert found['c_seconds_bucket{name="q",le="0.05"}'] == 3
    assert found['c_seconds_bucket{name="q",le="1800"}'] == 3
    assert found['c_seconds_bucket{name="q",le="+Inf"}'] == found['c_seconds_count{name="q"}'] == 7
    assert found['c_seconds_sum{name="q"}'] == 12.25
    check_with_promtool(promtool, page)


def test_samples_of_several_processes_are_added_value_by_value() -> None:
    total: Samples = {}

    add(total, {"b": {"": 1}})
    add(total, {"b": {"": 2, "{x}": 5}, "a_total": {"": 1}})

    assert total == {"b": {"": 3, "{x}": 5}, "a_total": {"": 1}}
    assert counted(FAMILIES) == {"a_total", "c_seconds"}
