"""docker/monitoring: every metric that the dashboard and the alerts ask for is one that the service has."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import get_args, get_type_hints

import promql_parser
import pytest
import yaml

from bootleg_service.errors import STATUS
from bootleg_service.metrics import Metrics, Read
from bootleg_service.models import Reloaded
from bootleg_service.stages import STAGES
from bootleg_service.telemetry.endings import CLIENT_CLOSED

MONITORING = Path(__file__).parents[2] / "docker/monitoring"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
PROMETHEUS = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))

RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ROWS = ["Traffic", "Latency by stage", "Batching", "Cache", "Errors", "Resources"]
OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate"}}
TARGET = {"job", "instance"}
VARIABLES = {"$__rate_interval": "1m", "$instance": ".*"}
VALUES = {
    "outcome": {"ok", CLIENT_CLOSED, "cached", "computed", *STATUS},
    "stage": set(STAGES),
    "result": {"hit", "miss"},
    "state": {"used", "free"},
    "job": {job["job_name"] for job in PROMETHEUS["scrape_configs"]},
}
"""Labels whose values are a closed set: one that is asked for must be among them."""
OF_RELOADS = {"outcome": set(get_args(get_type_hints(Reloaded)["outcome"]))}


def exposed():
    """Every sample's name that the service may expose, with its labels."""
    metrics = Metrics()
    found = {}
    for family in metrics.registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        collector = metrics.registry._names_to_collectors.get(family.name, metrics.engine_busy)
        labels = {"model"} if isinstance(collector, Read) else set(getattr(collector, "_labelnames", ()))
        for suffix in suffixes:
            found[family.name + suffix] = TARGET | labels | ({"le"} if suffix == "_bucket" else set())
    return found


EXPOSED = exposed() | OF_PROMETHEUS


def filled(expression):
    """A dashboard's expression with its variables replaced, as Grafana sends it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, "a variable that is not defined"
    return expression


def selectors(node):
    """Every selector of a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        child = getattr(node, name, None)
        if child is not None:
            yield from selectors(child)
    for child in getattr(node, "args", ()):
        yield from selectors(child)


def groupings(node):
    """Labels that an expression groups by."""
    modifier = getattr(node, "modifier", None)
    if modifier is not None and isinstance(node, promql_parser.AggregateExpr):
        yield from modifier.labels
    for name in ("expr", "lhs", "rhs"):
        child = getattr(node, name, None)
        if child is not None:
            yield from groupings(child)
    for child in getattr(node, "args", ()):
        yield from groupings(child)


def check(expression):
    """Every metric, label and value of an expression exists."""
    tree = promql_parser.parse(expression)
    found = list(selectors(tree))
    assert len(found) == len(re.findall(r"\b(?:bootleg|process)_\w+|\bup\b|\bALERTS\b", expression)), expression
    for selector in found:
        assert selector.name in EXPOSED, f"{selector.name}: no such metric"
        values = VALUES | (OF_RELOADS if selector.name == "bootleg_reloads_total" else {})
        for matcher in selector.matchers.matchers:
            assert matcher.name in EXPOSED[selector.name], f"{selector.name} has no label {matcher.name}"
            if matcher.name in values:
                assert any(re.fullmatch(matcher.value, value) for value in values[matcher.name]), matcher.value
                if str(matcher.op) == "MatchOp.Equal":
                    assert matcher.value in values[matcher.name]
                elif re.fullmatch(r"[\w|]+", matcher.value):
                    assert set(matcher.value.split("|")) <= values[matcher.name], matcher.value
    labels = set().union(*(EXPOSED[selector.name] for selector in found))
    assert set(groupings(tree)) <= labels, expression


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_what_a_panel_asks_for_exists(panel):
    assert panel["targets"]
    for target in panel["targets"]:
        check(filled(target["expr"]))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_exists_and_says_what_to_do(rule):
    check(rule["expr"])
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Bootleg[A-Z]\w+", rule["alert"])
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    assert rule["labels"]["severity"] in {"page", "ticket", "info"}
    assert set(rule["annotations"]) == {"summary", "do"}
    assert len(rule["annotations"]["do"]) > 40
    for name in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
        assert name in set().union(*(EXPOSED[s.name] for s in selectors(promql_parser.parse(rule["expr"])))), name


@pytest.mark.parametrize(
    "expression",
    [
        "rate(bootleg_request_total[5m])",
        'bootleg_ready{model="x"}',
        'bootleg_requests_total{outcome="fine"}',
        "sum by (reson) (bootleg_rejected_total)",
    ],
)
def test_the_check_finds_a_name_that_is_wrong(expression):
    with pytest.raises(AssertionError):
        check(expression)


def test_names_are_given_once():
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)


def test_the_options_that_alerts_name_exist():
    from bootleg_service.cli import serve

    known = {option for parameter in serve.params for option in parameter.opts}
    named = set(re.findall(r"--[a-z-]+", (MONITORING / "alerts.yml").read_text(encoding="utf-8")))
    assert named
    assert named <= known


def test_the_routes_that_alerts_time_are_those_that_take_images():
    from bootleg_service.app import create_app
    from tests.service.fake_engine import fake_bundle
    from tests.service.serving import settings

    (pattern,) = {
        matcher.value
        for rule in RULES
        for selector in selectors(promql_parser.parse(rule["expr"]))
        for matcher in selector.matchers.matchers
        if matcher.name == "route"
    }
    for path, methods in create_app(fake_bundle(), settings()).openapi()["paths"].items():
        assert bool(re.fullmatch(pattern, path)) == ("post" in methods), path


def test_prometheus_reads_the_alerts_and_asks_every_replica_behind_a_name():
    assert [Path(file).name for file in PROMETHEUS["rule_files"]] == ["alerts.yml"]
    (job,) = (job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "bootleg")
    assert job["metrics_path"] == "/metrics"
    assert job["dns_sd_configs"][0]["type"] == "A"


def test_the_dashboard_has_what_grafanas_model_asks_for():
    """As in Grafana's documentation of the dashboard JSON model."""
    for field, kind in {
        "title": str,
        "uid": str,
        "tags": list,
        "timezone": str,
        "editable": bool,
        "graphTooltip": int,
        "time": dict,
        "timepicker": dict,
        "templating": dict,
        "annotations": dict,
        "refresh": str,
        "schemaVersion": int,
        "version": int,
        "panels": list,
    }.items():
        assert isinstance(DASHBOARD[field], kind), field
    assert len(DASHBOARD["uid"]) <= 40
    assert set(DASHBOARD["time"]) == {"from", "to"}
    assert "id" not in DASHBOARD  # of a database; null or absent in a file that is imported
    assert "__inputs" not in DASHBOARD


def test_the_data_source_is_a_variable_everywhere():
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    (metric,) = re.findall(r"label_values\((\w+), instance\)", variables["instance"]["query"]["query"])
    assert metric in EXPOSED
    wanted = {"type": "prometheus", "uid": "${datasource}"}
    assert variables["instance"]["datasource"] == wanted
    assert DASHBOARD["annotations"]["list"][0]["datasource"] == wanted
    for panel in PANELS:
        assert panel["datasource"] == wanted
        assert all(target["datasource"] == wanted for target in panel["targets"])
    check(DASHBOARD["annotations"]["list"][0]["expr"])


def test_rows_are_there_in_their_order_and_panels_neither_overlap_nor_leave_the_page():
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == ROWS
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not cells & taken, panel["title"]
        taken |= cells


def test_panels_say_what_they_show():
    for panel in PANELS:
        assert panel["description"].endswith(".")
        assert panel["type"] in {"timeseries", "stat", "heatmap", "table"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["type"] == "heatmap" or defaults["unit"]


def test_every_metric_of_the_service_is_shown_or_watched():
    asked = {
        selector.name
        for expression in [filled(t["expr"]) for panel in PANELS for t in panel["targets"]] + [r["expr"] for r in RULES]
        for selector in selectors(promql_parser.parse(expression))
    }
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in EXPOSED if name.startswith("bootleg_")}
    assert families == {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked if name.startswith("bootleg_")}
