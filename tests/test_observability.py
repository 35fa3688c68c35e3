"""observability/: rules that promtool takes, a dashboard, and no metric in either that the code does not have."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from qik_core.probes.families import HISTOGRAM, WORKERS
from reconciler.families import RECONCILERS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "observability"
ALERTS = FOLDER / "alerts.yml"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
PANELS = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
FAMILIES = (*WORKERS, *RECONCILERS)
NAMES = {each.name for each in FAMILIES} | {
    each.name + suffix
    for each in FAMILIES
    if each.kind == HISTOGRAM
    for suffix in ("_bucket", "_sum", "_count")
}
_METRIC = re.compile(r"\b(?:qik|workqueue|controller_runtime)_[a-z_]+\b")
_GUIDE = (ROOT / "docs/how-to/observe.md").read_text()


def expressions() -> list[str]:
    """Return what the dashboard asks Prometheus."""
    return [target["expr"] for panel in PANELS for target in panel["targets"]]


def alerts() -> list[str]:
    return re.findall(r"alert: (\w+)", ALERTS.read_text())


def promtool_says(promtool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "arguments", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml")]
)
def test_prometheus_takes_the_rules_and_those_with_cases_fire_when_they_should(
    promtool: str, arguments: tuple[str, ...]
) -> None:
    done = promtool_says(promtool, *arguments)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("rule", "instead"),
    [
        ("qik_oldest_untold_age_seconds) > 300", "qik_oldest_untold_age_seconds) > 3000"),
        ("unless on (controller)", "and on (controller)"),
        ("unless on (name)", "and on (name)"),
        ("max(qik_redis_up) == 0", "min(qik_redis_up) == 0"),
        ("offset 1h", "offset 1m"),
        ("for: 1d", "for: 1h"),
    ],
)
def test_rules_that_are_broken_fail_the_cases_that_they_have(
    promtool: str, tmp_path: Path, rule: str, instead: str
) -> None:
    assert rule in ALERTS.read_text()
    (tmp_path / "alerts.yml").write_text(ALERTS.read_text().replace(rule, instead))
    (tmp_path / "alerts.test.yml").write_text((FOLDER / "alerts.test.yml").read_text())

    assert promtool_says(promtool, "test", "rules", str(tmp_path / "alerts.test.yml")).returncode


def test_every_expression_of_the_dashboard_can_be_read(promtool: str, tmp_path: Path) -> None:
    """As rules: that is how promtool reads an expression. What Grafana fills in is filled in."""
    filled = [each.replace("$__rate_interval", "5m") for each in expressions()]
    rules = [{"record": f"r{at}", "expr": each} for at, each in enumerate(filled)]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))

    done = promtool_says(promtool, "check", "rules", str(path))

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", [ALERTS.read_text(), "\n".join(expressions()), _GUIDE])
def test_every_metric_that_is_named_exists(text: str) -> None:
    assert set(_METRIC.findall(text)) <= NAMES


def test_labels_that_are_named_exist() -> None:
    rules = re.findall(r"expr: (.*?)\n +(?:for|labels):", ALERTS.read_text(), re.DOTALL)
    assert len(rules) == len(alerts())
    known = {label for each in FAMILIES for label in each.labels} | {"le", "job", "instance"}
    for each in (*expressions(), *rules):
        grouped = {
            name.strip()
            for names in re.findall(r"(?:by|on) \((.*?)\)", each)
            for name in names.split(",")
        }
        matched = set(re.findall(r"[{,](\w+)(?:=~|!=|=)", each))
        assert grouped | matched <= known, each


def test_panels_have_a_place_of_their_own_a_unit_and_a_description() -> None:
    assert max(Counter(each["id"] for each in DASHBOARD["panels"]).values()) == 1
    for one, other in combinations([each["gridPos"] for each in DASHBOARD["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
    for each in PANELS:
        assert each["description"], each["title"]
        assert each["fieldConfig"]["defaults"]["unit"], each["title"]


@pytest.mark.parametrize("alert", alerts())
def test_every_alert_is_in_the_guide(alert: str) -> None:
    assert f"| `{alert}` |" in _GUIDE


def test_every_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    for each in ALERTS.read_text().split("- alert: ")[1:]:
        assert re.search(r"severity: (page|ticket)", each), each
        assert "summary:" in each, each
        assert "description:" in each, each


def test_pages_that_alerts_name_exist() -> None:
    named = re.findall(r"docs/[\w/-]+\.md", ALERTS.read_text())
    assert named
    for each in named:
        assert (ROOT / each).exists(), each
