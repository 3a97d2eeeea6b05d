"""Alert rules and the dashboard ask for metrics and labels that a report's emitter has, in PromQL that parses."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import promql_parser
import pytest
import yaml
from shipped_ci import CHART, CI

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "report"))

from made_reports import hostile_report

from conformance.report.formats.openmetrics import PREFIX, families

MONITORING = CI / "monitoring"
ALERTS = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
BOARD = json.loads((MONITORING / "dashboard.json").read_text())
EMITTED = {
    PREFIX + each.name: {label for labels, _ in each.samples for label in labels} for each in families(hostile_report())
}
SELECTED = re.compile(rf"({PREFIX}\w+)(?:\{{([^}}]*)\}})?")


def _queries():
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for each in BOARD["annotations"]["list"]:
        yield each["name"], each["expr"]


@pytest.mark.parametrize(("where", "query"), list(_queries()))
def test_a_query_parses_and_every_metric_and_label_in_it_is_emitted(where, query):
    promql_parser.parse(query.replace("$cluster", "prod"))

    found = SELECTED.findall(query)
    assert found
    for metric, matchers in found:
        assert metric in EMITTED, where
        assert set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', matchers)) <= EMITTED[metric], where
    every = set().union(*(EMITTED[metric] for metric, _ in found))
    for labels in re.findall(r"(?:by|on) \(([^)]*)\)", query):
        assert set(labels.split(", ")) <= every, where


def test_texts_name_labels_that_the_metric_has():
    for rule in RULES:
        metrics = [metric for metric, _ in SELECTED.findall(rule["expr"])]
        named = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert named <= set().union(*(EMITTED[metric] for metric in metrics)), rule["alert"]
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            emitted = set().union(*(EMITTED[metric] for metric, _ in SELECTED.findall(target["expr"])))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= emitted


def test_every_alert_has_a_severity_and_says_what_to_do():
    names = [rule["alert"] for rule in RULES]

    assert len(names) == len(set(names))
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_operator_and_the_chart_get_the_same_rules():
    (rule,) = yaml.safe_load_all((MONITORING / "prometheus-rule.yaml").read_text())

    assert (rule["kind"], rule["spec"]) == ("PrometheusRule", ALERTS)
    assert yaml.safe_load((CHART / "files" / "alerts.yaml").read_text()) == ALERTS


def test_panels_are_beside_each_other_and_each_has_its_id():
    taken: dict[tuple[int, int], int] = {}
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["id"]) == panel["id"], panel["title"]
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not on PATH; go install github.com/prometheus/prometheus/cmd/promtool"
)
@pytest.mark.parametrize("asked", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts.test.yaml")])
def test_promtool_agrees(asked):
    ended = subprocess.run([str(PROMTOOL), *asked], cwd=MONITORING, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr
